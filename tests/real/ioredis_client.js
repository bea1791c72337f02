// What a program does with ioredis: one line of JSON for each thing done, for `resp_server.py` to compare.
//
//     NODE_PATH=... node ioredis_client.js PORT|PATH default
//
// It speaks the RESP that it speaks by default. Once it has said "restart" it waits for a line on its input.
'use strict';
const crypto = require('crypto');
const readline = require('readline');
const Redis = require('ioredis');

const [address] = process.argv.slice(2);
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

async function values(client) {
  await told('set', client.set('a', '1'));
  await told('get', client.get('a'));
  await told('get nothing', client.get('nothing'));
  await told('set nx', client.set('a', '2', 'NX'));
  await told('set xx get', client.set('a', '3', 'XX', 'GET'));
  await told('set px', client.set('b', '3', 'PX', 100000));
  await told('mget', client.mget('a', 'nothing', 'b'));
  await told('delete', client.del('a', 'nothing', 'b'));
  for (const by of [5, -7, Number.MAX_SAFE_INTEGER]) {
    await told(`incrby ${by}`, client.incrby('n', by));
    await told(`decrby ${by}`, client.decrby('m', by));
  }
  await told('incr', client.incr('n'));
  await told('decr', client.decr('m'));
  await told('set text', client.set('text', 'no number'));
  await told('incrby of text', client.incrby('text', 5));
  await told('bytes as key and value', client.set(bytes.subarray(0, 256), bytes));
  await told('bytes back', client.getBuffer(bytes.subarray(0, 256)));
  await told('a large value', client.set('large', large));
  await told('the large value', client.getBuffer('large'));
  await told('many at once', client.mgetBuffer(...Array(3).fill('large'), ...Array(MANY).fill('nothing')));
}

async function pipelines(client) {
  const pipeline = client.pipeline();
  for (let n = 0; n < MANY; n++) {
    pipeline.set(`key:${n}`, '\0\r\n'.repeat(n)).get(`key:${n}`).incrby('sum', n).get(`nothing:${n}`);
  }
  await told('a pipeline', pipeline.exec());
  await told('a pipeline with an error in it', client.pipeline().set('a', 'x').incrby('a', 5).get('a').exec());
}

async function connection(client) {
  await told('ping', client.ping());
  await told('echo', client.echo('two words'));
  await told('name', client.client('GETNAME'));
  await told('another name', client.client('SETNAME', 'other'));
  await told('the name', client.client('GETNAME'));
  await told('a name with a blank', client.client('SETNAME', 'a b'));
  await told('id', client.client('ID').then((id) => id > 0));
  await told('settings', client.config('GET', 'save'));
  await told('version', client.info().then((text) => /^redis_version:7\.0\.\d+\r$/m.test(text)));
  await told('no such command', client.call('NOSUCH', 'a'));
}

(async () => {
  const where = address.startsWith('/') ? { path: address } : { port: Number(address) };
  // What is asked while the server is away waits for the new connection.
  const client = new Redis({ ...where, connectionName: 'me' });
  client.on('error', () => {});  // Of which a restart makes some.
  let connects = 0;
  client.on('ready', () => { connects++; });
  await values(client);
  await pipelines(client);
  await connection(client);
  const input = readline.createInterface({ input: process.stdin });
  await told('restart', null);
  const line = await new Promise((resolve) => input.once('line', resolve));
  while (line === 'lost' && connects < 2) await new Promise((resolve) => setTimeout(resolve, 10));
  await told('set after a restart', client.set('a', '1'));
  await told('get after a restart', client.get('a'));
  input.close();
  await client.quit();
})().catch((error) => { console.error(error); process.exit(1); });
