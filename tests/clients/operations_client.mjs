// Tests a proxy with google-gax's operationsClient and its Operation, which Google's Node libraries use.
//
//     node operations_client.mjs PROXY DEVICE SLOW_PROXY SLOW_DEVICE
//
// The devices are those of operations_client.py.
import assert from 'node:assert/strict';

import gax from 'google-gax';

const GOOGLE = 'androidmanagement.googleapis.com';
const COMMAND = 'type.googleapis.com/google.android.devicemanagement.v1.Command';

const Struct = gax.protobuf.Root.fromJSON(gax.protobuf.common.get('google/protobuf/struct.proto'))
  .lookupType('google.protobuf.Struct');

/** Prints a line if the values are equal, otherwise throws. */
function check(what, got, wanted) {
  assert.deepEqual(got, wanted, what);
  console.log(`operations_client.mjs: ${what}`);
}

/** Waits for a call that must fail, and returns the error. */
async function refused(call) {
  return call.then(response => assert.fail(`returned ${JSON.stringify(response)}`), error => error);
}

/** A client of a plaintext server, without a Google credential. */
function client(server) {
  const [servicePath, port] = server.split(':');
  const auth = new gax.GoogleAuth({authClient: new gax.googleAuthLibrary.PassThroughClient()});
  const sslCreds = gax.grpc.credentials.createInsecure();
  return gax.lro({auth}).operationsClient({servicePath, port: Number(port), sslCreds});
}

/** The Operation of a name, as a library creates it. It polls from 100 ms. */
async function operation(operations, name) {
  const [latest] = await operations.getOperation({name});
  const struct = value => gax.serializer.toProto3JSON(Struct.decode(value));
  const descriptor = new gax.LongrunningDescriptor(operations, struct, struct);
  const backoff = gax.createBackoffSettings(100, 1.3, 1_000, null, null, null, 30_000);
  return gax.operation(latest, descriptor, backoff);
}

/** Checks list (pages, both forms of the parent) and get. Returns the names in the order of issue. */
async function reads(operations, device) {
  const pages = [];
  let request = {name: device};
  while (request !== null) {
    const [page, next] = await operations.listOperations(request, {autoPaginate: false});
    pages.push(page.map(found => found.name));
    request = next;
  }
  check('list: pages', pages.map(page => page.length), [2, 2, 1]);
  const names = pages.flat();
  const [listed] = await operations.listOperations({name: `${device}/operations`});
  check('list: the parent with /operations', listed.map(found => found.name), names);
  const [got] = await operations.getOperation({name: names[0]});
  check('get: as listed', got, listed[0]);
  const {metadata} = await operation(operations, names[1]);
  const shown = ['@type', 'type', 'duration', 'newPassword'].map(key => metadata[key]);
  check('get: metadata', shown, [COMMAND, 'RESET_PASSWORD', '600s', '[redacted]']);
  return names;
}

/** Checks cancel, and polling until the operation is done. */
async function ends(operations, names) {
  const wipe = await operation(operations, names[0]);
  check('operation: pending', wipe.done, false);
  await wipe.cancel();
  const cancelled = await refused(wipe.promise());
  check('operation: cancelled', cancelled.code, gax.Status.CANCELLED);
  const expired = await refused((await operation(operations, names[2])).promise());
  const wanted = [gax.Status.DEADLINE_EXCEEDED, 'The command expired before the device ran it.'];
  check('operation: expired', [expired.code, expired.message], wanted);
}

/** Checks errors: code, reason, domain and every detail. */
async function errors(operations, device, names) {
  const done = await refused(operations.cancelOperation({name: names[0]}));
  const refusal = [done.code, done.domain, done.reason !== undefined];
  check("error of Google's: domain", refusal, [gax.Status.FAILED_PRECONDITION, GOOGLE, true]);
  const absent = await refused(operations.getOperation({name: `${device}/operations/1`}));
  const missing = [gax.Status.NOT_FOUND, 'Requested entity was not found.'];
  check("error of Google's: message", [absent.code, absent.details], missing);
  const infos = absent.statusDetails.filter(detail => detail.reason !== undefined);
  check("error of Google's: one ErrorInfo", infos.map(info => info.domain), [GOOGLE]);
  const invalid = await refused(operations.getOperation({name: 'enterprises/../devices/d1/operations/1'}));
  check("error of the proxy's", [invalid.reason, invalid.domain], ['INVALID_NAME', 'countermand']);
  const [bad] = invalid.statusDetails.filter(detail => detail.fieldViolations !== undefined);
  check("error of the proxy's: field", bad.fieldViolations.map(found => found.field), ['name']);
  const deleted = await refused(operations.deleteOperation({name: names[0]}));
  const unsupported = [gax.Status.UNIMPLEMENTED, 'NOT_SUPPORTED'];
  check('delete', [deleted.code, deleted.reason], unsupported);
}

/** Checks a short deadline with and without the client's retries, and the results of executed commands. */
async function slow(operations, device) {
  const [[wipe, reboot]] = await operations.listOperations({name: device});
  const late = await refused(operations.getOperation({name: wipe.name}, {timeout: 200, retry: null}));
  check('timeout', late.code, gax.Status.DEADLINE_EXCEEDED);
  const retried = await refused(operations.getOperation({name: reboot.name}, {timeout: 200}));
  check("timeout: the client's retries", retried.code, gax.Status.DEADLINE_EXCEEDED);
  const [empty] = await (await operation(operations, wipe.name)).promise();
  check('result: Empty if Google returns none', empty, {});
  const [response] = await (await operation(operations, reboot.name)).promise();
  check('result: Struct', [response['@type'], response.type], [COMMAND, 'REBOOT']);
}

const [proxy, device, slowProxy, slowDevice] = process.argv.slice(2);
const operations = client(proxy);
const names = await reads(operations, device);
await ends(operations, names);
await errors(operations, device, names);
operations.close();
const slowOperations = client(slowProxy);
await slow(slowOperations, slowDevice);
slowOperations.close();
