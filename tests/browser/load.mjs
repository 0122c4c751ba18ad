// Calls a server again and again, until it is ended: gets, lists, waits and cancels of commands that it issues to the
// emulator, and some that are errors. Prints "loading" after the first calls.
//
//   load.mjs SERVER EMULATOR_URL CREDENTIALS_FILE [CALLS_PER_SECOND]

import { readFileSync } from "node:fs";
import http2 from "node:http2";
import { setTimeout as sleep } from "node:timers/promises";

const [server, emulator, credentialsFile, perSecond = "40"] = process.argv.slice(2);
const device = "enterprises/LC0browser/devices/d1";
const session = http2.connect(`http://${server}`);

// Signs in as the user of the credentials (RFC 6749, section 6).
async function signIn() {
  const credentials = JSON.parse(readFileSync(credentialsFile, "utf8"));
  const form = { ...credentials, grant_type: "refresh_token" };
  const response = await fetch(credentials.token_uri, { method: "POST", body: new URLSearchParams(form) });
  return (await response.json()).access_token;
}

async function issue(token) {
  const response = await fetch(`${emulator}/v1/${device}:issueCommand`, {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify({ type: "LOCK", duration: "600s" }),
  });
  // The emulator gives some 503.
  if (response.status === 503) return issue(token);
  if (!response.ok) throw new Error(`issueCommand: ${response.status} ${await response.text()}`);
  return (await response.json()).name;
}

// A message whose only field is a string, with the prefix of gRPC.
function message(field, text) {
  const name = Buffer.from(text);
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(name.length + 2, 1);
  return Buffer.concat([prefix, Buffer.from([(field << 3) | 2, name.length]), name]);
}

// Calls a method, and returns the gRPC code.
function call(method, field, name, timeout) {
  return new Promise((resolve, reject) => {
    const stream = session.request({
      ":method": "POST",
      ":path": `/google.longrunning.Operations/${method}`,
      "content-type": "application/grpc",
      te: "trailers",
      "grpc-timeout": timeout,
    });
    let code;
    const read = (headers) => (code ??= headers["grpc-status"]);
    stream.on("response", read).on("trailers", read).on("error", reject).on("close", () => resolve(code));
    stream.resume();
    stream.end(message(field, name));
  });
}

const token = await signIn();
let operations = await Promise.all(Array.from({ length: 5 }, () => issue(token)));
const some = () => operations[Math.floor(Math.random() * operations.length)];

async function round(number) {
  if (number % 40 === 0) operations = [...operations.slice(1), await issue(token)];
  if (number % 20 === 7) return call("WaitOperation", 1, some(), "4S");
  if (number % 10 === 3) return call("CancelOperation", 1, operations[0], "10S");
  if (number % 10 === 5) return call("GetOperation", 1, `${device}/operations/999`, "10S");
  if (number % 10 < 7) return call("GetOperation", 1, some(), "10S");
  return call("ListOperations", 4, device, "10S");
}

if ((await call("ListOperations", 4, device, "10S")) !== "0") throw new Error("the first call failed");
console.log("loading");
for (let number = 1; ; number++) {
  round(number).catch((error) => {
    console.error(error);
    process.exit(1);
  });
  const share = 0.6 + 0.4 * Math.sin(number / 400);
  await sleep(1000 / Number(perSecond) / share);
}
