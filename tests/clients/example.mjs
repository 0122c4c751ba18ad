import gax from 'google-gax';

const [server, name] = process.argv.slice(2); // 127.0.0.1:50051 enterprises/LC01/devices/d1/operations/17
const [servicePath, port] = server.split(':');
// The proxy holds Google's credential. Without these two options, the client would search for its own.
const auth = new gax.GoogleAuth({authClient: new gax.googleAuthLibrary.PassThroughClient()});
const sslCreds = gax.grpc.credentials.createInsecure();
const operations = gax.lro({auth}).operationsClient({servicePath, port: Number(port), sslCreds});
const Struct = gax.protobuf.Root.fromJSON(gax.protobuf.common.get('google/protobuf/struct.proto'))
  .lookupType('google.protobuf.Struct');
try {
  await operations.cancelOperation({name});
  // Only the finished operation shows whether the cancel came in time.
  let [latest] = await operations.getOperation({name});
  console.log('command:', Struct.decode(latest.metadata.value).fields.type.stringValue);
  while (!latest.done) {
    await new Promise(resolve => setTimeout(resolve, 1_000));
    [latest] = await operations.getOperation({name});
  }
  console.log(latest.error?.code === gax.Status.CANCELLED ? 'cancelled' : 'too late');
} catch (error) {
  console.error(`${gax.Status[error.code]} (${error.reason} of ${error.domain}): ${error.details}`);
  process.exitCode = 1;
} finally {
  operations.close();
}
