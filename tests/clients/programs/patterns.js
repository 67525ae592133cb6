// The tutorials' patterns with amqplib. Prints "ok NAME" per pattern; any error ends the program with code 1.
'use strict';
const amqp = require('amqplib');
const assert = require('assert');
const [url, tag] = process.argv.slice(2);
const name = (part) => `node-${part}-${tag}`;

// Consumes until `count` messages are there; resolves to their texts.
function take(ch, queue, count, options = { noAck: true }) {
  return new Promise((resolve, reject) => {
    const got = [];
    ch.consume(queue, (msg) => {
      if (msg === null) return reject(new Error('consumer cancelled'));
      got.push(msg);
      if (!options.noAck) ch.ack(msg);
      if (got.length === count) resolve(got.map((m) => m.content.toString()));
    }, options).catch(reject);
  });
}

const patterns = {
  async work_queue(conn) {
    const ch = await conn.createChannel();
    const q = name('work');
    await ch.assertQueue(q, { durable: true });
    await ch.prefetch(1);
    for (let n = 0; n < 10; n++) ch.sendToQueue(q, Buffer.from(`task ${n}`), { persistent: true });
    const got = await take(ch, q, 10, { noAck: false });
    assert.deepStrictEqual(got, [...Array(10).keys()].map((n) => `task ${n}`));
    await ch.deleteQueue(q);
  },
  async publish_subscribe(conn) {
    const ch = await conn.createChannel();
    await ch.assertExchange(name('logs'), 'fanout', { durable: false, autoDelete: true });
    const takes = [];
    for (let n = 0; n < 2; n++) {
      const { queue } = await ch.assertQueue('', { exclusive: true });
      await ch.bindQueue(queue, name('logs'), '');
      takes.push(take(ch, queue, 1));
    }
    ch.publish(name('logs'), '', Buffer.from('hello'));
    assert.deepStrictEqual(await Promise.all(takes), [['hello'], ['hello']]);
  },
  async routing(conn) {
    const ch = await conn.createChannel();
    await ch.assertExchange(name('direct'), 'direct', { durable: false, autoDelete: true });
    const { queue } = await ch.assertQueue('', { exclusive: true });
    for (const key of ['error', 'warning']) await ch.bindQueue(queue, name('direct'), key);
    for (const key of ['info', 'error', 'warning']) ch.publish(name('direct'), key, Buffer.from(key));
    assert.deepStrictEqual(await take(ch, queue, 2), ['error', 'warning']);
  },
  async topics(conn) {
    const ch = await conn.createChannel();
    await ch.assertExchange(name('topic'), 'topic', { durable: false, autoDelete: true });
    const { queue } = await ch.assertQueue('', { exclusive: true });
    await ch.bindQueue(queue, name('topic'), 'kern.*');
    for (const key of ['kern.info', 'cron.info', 'kern.a.b', 'kern.x']) ch.publish(name('topic'), key, Buffer.from(key));
    assert.deepStrictEqual(await take(ch, queue, 2), ['kern.info', 'kern.x']);
  },
  async rpc(conn) {
    const server = await conn.createChannel();
    const client = await conn.createChannel();
    const q = (await server.assertQueue('', { exclusive: true })).queue;
    await server.consume(q, (msg) => {
      const answer = String(Number(msg.content.toString()) * 2);
      server.sendToQueue(msg.properties.replyTo, Buffer.from(answer), { correlationId: msg.properties.correlationId });
      server.ack(msg);
    });
    const answers = take(client, 'amq.rabbitmq.reply-to', 3);
    for (const n of [1, 2, 3]) {
      client.sendToQueue(q, Buffer.from(String(n)), { replyTo: 'amq.rabbitmq.reply-to', correlationId: String(n) });
    }
    assert.deepStrictEqual(await answers, ['2', '4', '6']);
  },
  async confirms(conn) {
    const ch = await conn.createConfirmChannel();
    const q = name('confirms');
    await ch.assertQueue(q, { durable: true });
    for (let n = 0; n < 200; n++) ch.sendToQueue(q, Buffer.from(String(n)), { persistent: true });
    await ch.waitForConfirms();
    assert.strictEqual((await ch.checkQueue(q)).messageCount, 200);
    const returned = new Promise((resolve) => ch.once('return', resolve));
    ch.publish('', name('nowhere'), Buffer.from('m'), { mandatory: true });
    assert.strictEqual((await returned).fields.replyCode, 312);
    await ch.deleteQueue(q);
  },
  async stream(conn) {
    const ch = await conn.createConfirmChannel();
    const q = name('stream');
    const headers = { text: 'ü', n: 5, big: 1099511627776, yes: true };
    await ch.assertQueue(q, { durable: true, arguments: { 'x-queue-type': 'stream' } });
    for (let n = 0; n < 20; n++) ch.sendToQueue(q, Buffer.from(String(n)), { headers });
    await ch.waitForConfirms();
    await ch.prefetch(5);
    for (const first of [0, 15]) {
      const reader = await conn.createChannel();
      await reader.prefetch(5);
      const got = [];
      await new Promise((resolve) => reader.consume(q, (msg) => {
        assert.deepStrictEqual(msg.properties.headers, { ...headers, 'x-stream-offset': first + got.length });
        reader.ack(msg);
        if (got.push(msg.content.toString()) === 20 - first) resolve();
      }, { arguments: { 'x-stream-offset': first } }));
      assert.deepStrictEqual(got, [...Array(20).keys()].slice(first).map(String));
      await reader.close();
    }
    await ch.deleteQueue(q);
  },
  async errors(conn) {
    const ch = await conn.createChannel();
    const closed = new Promise((resolve) => ch.once('error', resolve));
    await assert.rejects(ch.checkQueue(name('none')));
    const error = await closed;
    assert.strictEqual(error.code, 404);
    assert.ok(error.message.includes(`NOT_FOUND - no queue '${name('none')}' in vhost '/'`), error.message);
  },
  async properties(conn) {
    const ch = await conn.createChannel();
    const { queue } = await ch.assertQueue('', { exclusive: true });
    const headers = { text: 'ü', n: 5, big: 1099511627776, d: 1.5, yes: true, none: null, list: [1, 'a'], t: { k: 'v' } };
    ch.sendToQueue(queue, Buffer.alloc(300000, 'x'), { headers, messageId: 'm', timestamp: 1700000000, priority: 3 });
    let msg = false;
    while (!msg) msg = await ch.get(queue, { noAck: true });
    assert.deepStrictEqual(msg.properties.headers, headers);
    assert.strictEqual(msg.content.length, 300000);
    assert.strictEqual(msg.properties.messageId, 'm');
  },
};

(async () => {
  const conn = await amqp.connect(url);
  for (const [label, run] of Object.entries(patterns)) {
    await run(conn);
    console.log(`ok ${label}`);
  }
  await conn.close();
})().catch((error) => { console.error(error); process.exit(1); });
