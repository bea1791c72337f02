// What a program does with node-redis: one line of JSON for each thing done, for `resp_server.py` to compare.
//
//     NODE_PATH=... node node_redis_client.js PORT|PATH 2|3|default
//
// Once it has said "restart" it waits for a line on its input, which tells whether it has lost the server meanwhile.
'use strict';
const crypto = require('crypto');
const readline = require('readline');
const { createClient, RESP_TYPES } = require('redis');

const [address, version] = process.argv.slice(2);
const MANY = 2000;
const bytes = Buffer.from(Array.from({ length: 256 * 257 }, (_, n) => n % 256));
const large = Buffer.from(Array.from({ length: (8 << 20) - 8 }, (_, n) => n % 251));

function shown(result) {
  if (Buffer.isBuffer(result)) {
    return result.length <= 1000 ? result.toString('hex') : [result.length, crypto.createHash('sha256').update(result).digest('hex')];
  }
  if (result instanceof Error) return `${result.constructor.name}: ${result.message}`;
  if (Array.isArray(result)) return result.map(shown);
  return result;
}

async function told(what, promise) {
  const result = await Promise.resolve(promise).catch((error) => error);
  console.log(JSON.stringify([what, shown(result)]));
}

async function values(client, binary) {
  await told('set', client.set('a', '1'));
  await told('get', client.get('a'));
  await told('get nothing', client.get('nothing'));
  await told('set nx', client.set('a', '2', { condition: 'NX' }));
  await told('set xx get', client.set('a', '3', { condition: 'XX', GET: true }));
  await told('set nothing xx get', client.set('nothing', '3', { condition: 'XX', GET: true }));
  await told('set px', client.set('b', '3', { expiration: { type: 'PX', value: 100000 } }));
  await told('mget', client.mGet(['a', 'nothing', 'b']));
  await told('delete', client.del(['a', 'nothing', 'b']));
  for (const by of [5, -7, Number.MAX_SAFE_INTEGER]) {
    await told(`incrby ${by}`, client.incrBy('n', by));
    await told(`decrby ${by}`, client.decrBy('m', by));
  }
  await told('incr', client.incr('n'));
  await told('decr', client.decr('m'));
  await told('set text', client.set('text', 'no number'));
  await told('incrby of text', client.incrBy('text', 5));
  await told('bytes as key and value', binary.set(bytes.subarray(0, 256), bytes));
  await told('bytes back', binary.get(bytes.subarray(0, 256)));
  await told('a large value', binary.set('large', large));
  await told('the large value', binary.get('large'));
  await told('many at once', binary.mGet([...Array(3).fill('large'), ...Array(MANY).fill('nothing')]));
}

async function pipelines(client) {
  const all = [];
  for (let n = 0; n < MANY; n++) {
    all.push(client.set(`key:${n}`, '\0\r\n'.repeat(n)), client.get(`key:${n}`), client.incrBy('sum', n), client.get(`nothing:${n}`));
  }
  await told('a pipeline', Promise.all(all));
  await told('a pipeline by name', client.multi().set('a', '1').incrBy('a', 4).get('a').get('nothing').execAsPipeline());
}

async function connection(client) {
  await told('ping', client.ping());
  await told('echo', client.echo('two words'));
  await told('name', client.clientGetName());
  await told('another name', client.clientSetName('other'));
  await told('the name', client.clientGetName());
  await told('a name with a blank', client.clientSetName('a b'));
  await told('id', client.clientId().then((id) => id > 0));
  await told('settings', client.configGet('save').then((settings) => ({ ...settings })));
  await told('version', client.info().then((text) => /^redis_version:7\.0\.\d+\r$/m.test(text)));
  await told('no such command', client.sendCommand(['NOSUCH', 'a']));
}

(async () => {
  const socket = address.startsWith('/') ? { path: address } : { port: Number(address) };
  const client = createClient({ socket, name: 'me', ...(version === 'default' ? {} : { RESP: Number(version) }) });
  client.on('error', () => {});  // Of which a restart makes some.
  let connects = 0;
  client.on('ready', () => { connects++; });
  await client.connect();
  await values(client, client.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer }));
  await pipelines(client);
  await connection(client);
  const input = readline.createInterface({ input: process.stdin });
  await told('restart', null);
  const line = await new Promise((resolve) => input.once('line', resolve));
  // What it sends before it sees the end of the old connection is lost with it, and is not sent again.
  while (line === 'lost' && connects < 2) await new Promise((resolve) => setTimeout(resolve, 10));
  await told('set after a restart', client.set('a', '1'));
  await told('get after a restart', client.get('a'));
  input.close();
  await client.close();
})().catch((error) => { console.error(error); process.exit(1); });
