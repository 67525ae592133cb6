// kafkajs.js - Kafka with kafkajs, unmodified: node kafkajs.js BOOTSTRAP NAME. Prints "ok PATTERN" for each pattern.
const { Kafka, CompressionTypes, logLevel, AclOperationTypes, AclPermissionTypes, AclResourceTypes, ConfigResourceTypes,
  ResourcePatternTypes } = require("kafkajs");
const assert = require("assert");

const [bootstrap, name] = process.argv.slice(2);
const kafka = new Kafka({ clientId: name, brokers: [bootstrap], logLevel: logLevel.ERROR });
const LIMIT_MS = 60000;

function within(promise, what) {
  let timer;
  const late = new Promise((_, no) => { timer = setTimeout(() => no(new Error(`not in time: ${what}`)), LIMIT_MS); });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// Reads `wanted` messages in a group and leaves it.
async function read(topic, groupId, wanted, options = {}) {
  const consumer = kafka.consumer({ groupId, ...options });
  const got = [];
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  await within(new Promise((yes, no) => {
    consumer.on(consumer.events.CRASH, (event) => no(event.payload.error));
    consumer.run({ eachMessage: async ({ partition, message }) => {
      got.push({ partition, ...message });
      if (got.length === wanted) yes();
    } }).catch(no);
  }), `${wanted} messages of ${topic}`);
  await consumer.disconnect();
  return got;
}

async function produce_consume(admin, producer) {
  const topic = `${name}-plain`;
  assert(await admin.createTopics({ topics: [{ topic, numPartitions: 3 }], waitForLeaders: true }));
  const messages = [...Array(90).keys()].map((i) => ({ key: `k${i}`, value: `v${i}`, headers: { n: `${i}`, of: "90" },
    timestamp: `${1700000000000 + i}` }));
  const sent = await producer.send({ topic, messages, acks: -1 });
  assert.deepStrictEqual(sent.map((part) => part.errorCode), sent.map(() => 0));
  const got = await read(topic, `${name}-g`, 90);
  assert.deepStrictEqual(got.map((m) => m.value.toString()).sort(), messages.map((m) => m.value).sort());
  for (const m of got) {
    assert.strictEqual(m.headers.n.toString(), m.key.toString().slice(1));
    assert.strictEqual(m.timestamp, `${1700000000000 + Number(m.headers.n)}`);
  }
  assert(new Set(got.map((m) => m.partition)).size > 1);
  await admin.setOffsets({ groupId: `${name}-g`, topic, partitions: [{ partition: 0, offset: "0" }] });
  const again = await admin.fetchOffsets({ groupId: `${name}-g`, topics: [topic] });
  assert.strictEqual(again[0].partitions.find((p) => p.partition === 0).offset, "0");
}

async function compression(admin, producer) {
  const topic = `${name}-gzip`;
  await admin.createTopics({ topics: [{ topic }], waitForLeaders: true });
  const value = "the same words again and again ".repeat(100);
  await producer.send({ topic, compression: CompressionTypes.GZIP, messages: Array(20).fill({ key: null, value }) });
  const got = await read(topic, `${name}-gz`, 20);
  assert(got.every((m) => m.key === null && m.value.toString() === value));
}

// Two members share the partitions; one leaves, and the other gets them all.
async function group(admin, producer) {
  const topic = `${name}-shared`, groupId = `${name}-members`;
  await admin.createTopics({ topics: [{ topic, numPartitions: 4 }], waitForLeaders: true });
  const held = [[], []], seen = new Set();
  let wake = () => {};
  const members = [0, 1].map(() => kafka.consumer({ groupId, rebalanceTimeout: 5000, heartbeatInterval: 300 }));
  for (const [i, member] of members.entries()) {
    member.on(member.events.GROUP_JOIN, ({ payload }) => { held[i] = payload.memberAssignment[topic] || []; wake(); });
    await member.connect();
    await member.subscribe({ topic, fromBeginning: true });
    await member.run({ eachMessage: async ({ message }) => { seen.add(message.value.toString()); wake(); } });
  }
  const until = (done, what) => within(new Promise((yes) => { wake = () => done() && yes(); wake(); }), what);
  await until(() => held[0].length === 2 && held[1].length === 2, "two partitions each");
  await producer.send({ topic, messages: [...Array(40).keys()].map((i) => ({ key: `${i}`, value: `${i}` })) });
  await until(() => seen.size === 40, "40 messages");
  const told = (await admin.describeGroups([groupId])).groups[0];
  assert.strictEqual(told.state, "Stable");
  assert.strictEqual(told.members.length, 2);
  await members[0].disconnect();
  await until(() => held[1].length === 4, "all partitions for the one that stays");
  await members[1].disconnect();
  assert((await admin.listGroups()).groups.some((g) => g.groupId === groupId));
  await admin.deleteGroups([groupId]);
}

async function transactions(admin) {
  const input = `${name}-in`, output = `${name}-out`, groupId = `${name}-eos`;
  await admin.createTopics({ topics: [{ topic: input }, { topic: output }], waitForLeaders: true });
  const producer = kafka.producer({ transactionalId: `${name}-tx`, idempotent: true, maxInFlightRequests: 1 });
  await producer.connect();
  for (const [i, how] of [[0, "commit"], [1, "abort"], [2, "commit"]]) {
    const transaction = await producer.transaction();
    await transaction.send({ topic: output, messages: [{ value: `${i}` }] });
    await transaction.sendOffsets({ consumerGroupId: groupId, topics: [{ topic: input,
      partitions: [{ partition: 0, offset: `${10 + i}` }] }] });
    await transaction[how]();
  }
  await producer.disconnect();
  const got = await read(output, `${name}-reader`, 2, { readUncommitted: false });
  assert.deepStrictEqual(got.map((m) => m.value.toString()), ["0", "2"]);
  const offsets = await admin.fetchOffsets({ groupId, topics: [input] });
  assert.strictEqual(offsets[0].partitions[0].offset, "12");
}

async function administration(admin) {
  const topic = `${name}-admin`;
  assert(await admin.createTopics({ topics: [{ topic, numPartitions: 1, configEntries: [{ name: "retention.ms", value: "5000" }] }] }));
  await admin.createPartitions({ topicPartitions: [{ topic, count: 3 }] });
  assert.strictEqual((await admin.fetchTopicMetadata({ topics: [topic] })).topics[0].partitions.length, 3);
  const resource = { type: ConfigResourceTypes.TOPIC, name: topic };
  const read_config = async () => Object.fromEntries((await admin.describeConfigs({ resources: [resource] }))
    .resources[0].configEntries.map((entry) => [entry.configName, entry.configValue]));
  assert.strictEqual((await read_config())["retention.ms"], "5000");
  await admin.alterConfigs({ resources: [{ ...resource, configEntries: [{ name: "max.message.bytes", value: "3000" }] }] });
  assert.strictEqual((await read_config())["max.message.bytes"], "3000");
  const cluster = await admin.describeCluster();
  assert.strictEqual(cluster.brokers.length, 1);
  assert.strictEqual(cluster.controller, cluster.brokers[0].nodeId);
  const acl = { resourceType: AclResourceTypes.TOPIC, resourceName: topic, resourcePatternType: ResourcePatternTypes.LITERAL,
    principal: "User:bob", host: "*", operation: AclOperationTypes.READ, permissionType: AclPermissionTypes.ALLOW };
  await admin.createAcls({ acl: [acl] });
  const found = await admin.describeAcls({ ...acl });
  assert.strictEqual(found.resources[0].acls[0].principal, "User:bob");
  assert.strictEqual((await admin.deleteAcls({ filters: [acl] })).filterResponses[0].matchingAcls.length, 1);
  const offsets = await admin.fetchTopicOffsets(topic);
  assert.deepStrictEqual(offsets.map((row) => [row.low, row.high]), Array(3).fill(["0", "0"]));
  await admin.deleteTopics({ topics: [topic] });
  assert(!(await admin.listTopics()).includes(topic));
}

async function main() {
  const admin = kafka.admin(), producer = kafka.producer();
  await admin.connect();
  await producer.connect();
  for (const pattern of [produce_consume, compression, group, transactions, administration]) {
    await pattern(admin, producer);
    console.log(`ok ${pattern.name}`);
  }
  await producer.disconnect();
  await admin.disconnect();
}

main().catch((error) => { console.error(error); process.exit(1); });
