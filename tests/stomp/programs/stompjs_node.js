// stompjs in Node over WebSocket, unmodified: node stompjs_node.js URL QUEUE; prints "ok NAME" per pattern.
const assert = require('assert');
const { Client } = require('@stomp/stompjs');
Object.assign(global, { WebSocket: require('ws') });

const [url, name] = process.argv.slice(2);
const open = (options = {}) => new Promise((resolve, reject) => {
  const client = new Client({ brokerURL: url, connectHeaders: { login: 'guest', passcode: 'guest', host: '/' },
    reconnectDelay: 0, heartbeatIncoming: 1000, heartbeatOutgoing: 1000, ...options });
  client.onConnect = () => resolve(client);
  client.onStompError = (frame) => reject(new Error(frame.headers.message));
  client.activate();
});
const receipt = (client, id) => new Promise((resolve) => client.watchForReceipt(id, resolve));
const next = (list, n) => new Promise((resolve, reject) => {
  const limit = setTimeout(() => reject(new Error(`${list.length} of ${n} messages`)), 40000);
  const look = setInterval(() => {
    if (list.length < n) return;
    clearInterval(look); clearTimeout(limit); resolve(list);
  }, 5);
});

async function work_queue(client) {
  const got = [], queue = `/queue/${name}-work`;
  client.subscribe(queue, (m) => { got.push(m); m.ack(); }, { ack: 'client-individual', 'prefetch-count': '10' });
  for (let n = 0; n < 100; n++)
    client.publish({ destination: queue, body: `${n} gr\u00fc\u00dfe`, headers: { persistent: 'true', n: `${n}:\\` } });
  await next(got, 100);
  got.forEach((m, n) => { assert.equal(m.body, `${n} gr\u00fc\u00dfe`); assert.equal(m.headers.n, `${n}:\\`); });
}

async function binary(client) {
  const got = [], queue = `/queue/${name}-binary`, bytes = new Uint8Array(70000).map((_, i) => i * 7);
  client.subscribe(queue, (m) => got.push(m));
  client.publish({ destination: queue, binaryBody: bytes, headers: { 'content-type': 'application/octet-stream' } });
  await next(got, 1);
  assert.deepEqual(Buffer.from(got[0].binaryBody), Buffer.from(bytes));
}

async function publish_subscribe(client) {
  const got = [];
  const done = receipt(client, 'sub');
  client.subscribe(`/topic/${name}.*`, (m) => got.push(m.headers.destination), { receipt: 'sub' });
  await done;
  client.publish({ destination: `/topic/${name}.red`, body: 'r' });
  client.publish({ destination: `/topic/${name}.blue.no`, body: 'n' });
  client.publish({ destination: `/topic/${name}.blue`, body: 'b' });
  assert.deepEqual(await next(got, 2), [`/topic/${name}.red`, `/topic/${name}.blue`]);
}

async function rpc(client) {
  const answers = [], queue = `/queue/${name}-rpc`;
  client.subscribe(queue, (m) => client.publish({ destination: m.headers['reply-to'], body: m.body.toUpperCase() }));
  client.onUnhandledMessage = (m) => answers.push(m.body);
  client.publish({ destination: queue, body: 'ask', headers: { 'reply-to': '/temp-queue/answers' } });
  assert.deepEqual(await next(answers, 1), ['ASK']);
}

async function transactions(client) {
  const got = [], queue = `/queue/${name}-tx`;
  client.subscribe(queue, (m) => got.push(m.body));
  const lost = client.begin(), kept = client.begin();
  client.publish({ destination: queue, body: 'lost', headers: { transaction: lost.id } });
  client.publish({ destination: queue, body: 'kept', headers: { transaction: kept.id } });
  lost.abort(); kept.commit();
  assert.deepEqual(await next(got, 1), ['kept']);
}

async function errors() {
  await assert.rejects(open({ connectHeaders: { login: 'guest', passcode: 'wrong' } }), /Bad CONNECT/);
}

(async () => {
  for (const forceBinaryWSFrames of [false, true]) {
    const client = await open({ forceBinaryWSFrames });
    assert.equal(client.connectedVersion, '1.2');
    for (const pattern of [work_queue, binary, publish_subscribe, rpc, transactions]) {
      await pattern(client);
      console.log(`ok ${pattern.name} ${forceBinaryWSFrames ? 'binary' : 'text'}`);
    }
    await client.deactivate();
  }
  await errors();
  console.log('ok errors');
  process.exit(0);
})().catch((e) => { console.log(e.stack); process.exit(1); });
