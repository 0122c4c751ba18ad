// A headless Chromium, controlled by the DevTools protocol over a pipe (`--remote-debugging-pipe`).

import { spawn } from "node:child_process";

const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--hide-scrollbars",
  "--remote-debugging-pipe",
];

export class Chromium {
  #process;
  #next = 1;
  #waiting = new Map();
  #session;
  // The requests and the errors of the page.
  requests = [];
  errors = [];

  // Starts a Chromium with an empty profile.
  static async start(profile) {
    const browser = new Chromium();
    const flags = [...FLAGS, `--user-data-dir=${profile}`, "about:blank"];
    browser.#process = spawn("chromium", flags, { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
    browser.#process.on("exit", (code) => browser.#fail(new Error(`chromium ended with ${code}`)));
    browser.#read(browser.#process.stdio[4]);
    const { targetInfos } = await browser.#send("Target.getTargets");
    const { targetId } = targetInfos.find((target) => target.type === "page");
    browser.#session = (await browser.#send("Target.attachToTarget", { targetId, flatten: true })).sessionId;
    for (const domain of ["Page", "Runtime", "Log", "Network"]) await browser.#send(`${domain}.enable`);
    return browser;
  }

  async #read(pipe) {
    let text = "";
    for await (const chunk of pipe.setEncoding("utf8")) {
      text += chunk;
      const messages = text.split("\0");
      text = messages.pop();
      messages.map(JSON.parse).forEach((message) => this.#receive(message));
    }
  }

  #receive({ id, method, params, result, error }) {
    if (id) {
      const { resolve, reject } = this.#waiting.get(id);
      this.#waiting.delete(id);
      error ? reject(new Error(error.message)) : resolve(result);
    } else if (method === "Network.requestWillBeSent") {
      this.requests.push(params.request.url);
    } else if (method === "Log.entryAdded" && params.entry.level === "error") {
      this.errors.push(params.entry.text);
    } else if (method === "Runtime.exceptionThrown") {
      this.errors.push(params.exceptionDetails.text);
    } else if (method === "Runtime.consoleAPICalled" && params.type === "error") {
      this.errors.push(JSON.stringify(params.args));
    } else if (method === "Page.loadEventFired") {
      this.loaded?.();
    }
  }

  #fail(error) {
    this.#waiting.forEach(({ reject }) => reject(error));
    this.#waiting.clear();
  }

  #send(method, params = {}) {
    const id = this.#next++;
    const message = JSON.stringify({ id, method, params, sessionId: this.#session });
    this.#process.stdio[3].write(`${message}\0`);
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }

  // Opens a page of this width, in a light or a dark scheme, and waits until it has loaded.
  async open(url, { width, height = 900, scheme }) {
    const size = { width, height, deviceScaleFactor: 1, mobile: width < 600 };
    await this.#send("Emulation.setDeviceMetricsOverride", size);
    const features = [{ name: "prefers-color-scheme", value: scheme }];
    await this.#send("Emulation.setEmulatedMedia", { features });
    const loaded = new Promise((resolve) => (this.loaded = resolve));
    const { errorText } = await this.#send("Page.navigate", { url });
    if (errorText) throw new Error(`${url}: ${errorText}`);
    await loaded;
  }

  // Evaluates a function in the page, and returns its JSON.
  async evaluate(work) {
    const expression = `(${work})()`;
    const { result, exceptionDetails } = await this.#send("Runtime.evaluate", { expression, returnByValue: true });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  }

  // A PNG of the top of the page.
  async screenshot(width, height) {
    const clip = { x: 0, y: 0, width, height, scale: 1 };
    const { data } = await this.#send("Page.captureScreenshot", { format: "png", clip, captureBeyondViewport: true });
    return Buffer.from(data, "base64");
  }

  async end() {
    const ended = new Promise((resolve) => this.#process.on("exit", resolve));
    this.#process.kill();
    await ended;
  }
}
