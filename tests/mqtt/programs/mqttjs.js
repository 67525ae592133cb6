// MQTT.js, unmodified: one pattern after the other; "ok NAME" for each. node mqttjs.js URL NAME
"use strict";
const assert = require("assert");
const crypto = require("crypto");
const mqtt = require("mqtt");
const [url, name] = process.argv.slice(2);
const LIMIT_MS = 40000;

const within = (promise, what) => Promise.race([promise, new Promise((_, no) => setTimeout(() => no(new Error(what)), LIMIT_MS).unref())]);
const open = (options) => mqtt.connectAsync(url, { username: "guest", password: "guest", protocolVersion: 5, reconnectPeriod: 0, ...options });

// The next n messages of a client.
function messages(client, n) {
  return within(new Promise((yes) => {
    const got = [];
    const take = (topic, payload, packet) => {
      got.push({ topic, text: payload.toString(), packet });
      if (got.length === n) { client.removeListener("message", take); yes(got); }
    };
    client.on("message", take);
  }), `${n} messages`);
}

async function qos(version) {
  const c = await open({ protocolVersion: version });
  for (const level of [0, 1, 2]) {
    const topic = `${name}/${version}/q${level}`;
    await c.subscribeAsync(topic, { qos: level });
    const all = messages(c, 50);
    for (let i = 0; i < 50; i++) await c.publishAsync(topic, `${i}`, { qos: level });
    const got = await all;
    assert.deepStrictEqual(got.map((m) => m.text), [...Array(50).keys()].map(String));
    assert(got.every((m) => m.packet.qos === level));
  }
  await c.endAsync();
}

async function retained() {
  const c = await open({});
  await c.publishAsync(`${name}/r`, "kept", { qos: 1, retain: true });
  const first = messages(c, 1);
  await c.subscribeAsync(`${name}/r`, { qos: 1 });
  const [m] = await first;
  assert(m.text === "kept" && m.packet.retain);
  await c.publishAsync(`${name}/r`, "", { qos: 1, retain: true });
  await c.endAsync();
}

async function session() {
  const options = { clientId: `${name}-session`, clean: false, properties: { sessionExpiryInterval: 60 } };
  const one = await open(options);
  await one.subscribeAsync(`${name}/s`, { qos: 2 });
  await one.endAsync();
  const p = await open({});
  await p.publishAsync(`${name}/s`, "waited", { qos: 2 });
  await p.endAsync();
  const again = mqtt.connect(url, { username: "guest", password: "guest", protocolVersion: 5, ...options });
  const [m] = await messages(again, 1);
  assert.strictEqual(m.text, "waited");
  await again.endAsync();
}

async function properties() {
  const c = await open({});
  await c.subscribeAsync(`${name}/p`, { qos: 1, properties: { subscriptionIdentifier: 7 } });
  const first = messages(c, 1);
  await c.publishAsync(`${name}/p`, "{}", { qos: 1, properties: { contentType: "application/json", responseTopic: "to/me",
    correlationData: Buffer.from("id"), userProperties: { k: ["v", "w"] }, messageExpiryInterval: 100 } });
  const p = (await first)[0].packet.properties;
  assert.strictEqual(p.contentType, "application/json");
  assert.strictEqual(p.responseTopic, "to/me");
  assert.strictEqual(p.correlationData.toString(), "id");
  assert.deepStrictEqual([...p.userProperties.k], ["v", "w"]);
  assert.strictEqual([].concat(p.subscriptionIdentifier)[0], 7);
  await c.endAsync();
}

async function shared() {
  const group = [await open({}), await open({})];
  let got = 0;
  const done = within(new Promise((yes) => group.forEach((c) => c.on("message", () => ++got === 100 && yes()))), "100 shared");
  for (const c of group) await c.subscribeAsync(`$share/g/${name}/sh`, { qos: 1 });
  const p = await open({});
  for (let i = 0; i < 100; i++) await p.publishAsync(`${name}/sh`, `${i}`, { qos: 1 });
  await done;
  for (const c of [...group, p]) await c.endAsync();
}

async function will() {
  const c = await open({});
  await c.subscribeAsync(`${name}/w`, { qos: 1 });
  const first = messages(c, 1);
  const dying = await open({ will: { topic: `${name}/w`, payload: Buffer.from("gone"), qos: 1, retain: false } });
  dying.on("error", () => {});
  dying.stream.destroy();
  assert.strictEqual((await first)[0].text, "gone");
  await c.endAsync();
}

// Enhanced authentication: MQTT.js carries it, the mechanism is ours.
async function scram() {
  const nonce = crypto.randomBytes(18).toString("base64");
  const bare = `n=guest,r=${nonce}`;
  const hmac = (key, data) => crypto.createHmac("sha256", key).update(data).digest();
  const client = mqtt.connect(url, { protocolVersion: 5, reconnectPeriod: 0,
    properties: { authenticationMethod: "SCRAM-SHA-256", authenticationData: Buffer.from(`n,,${bare}`) } });
  let wanted;
  client.handleAuth = (packet, next) => {
    const first = packet.properties.authenticationData.toString();
    const said = Object.fromEntries(first.split(",").map((part) => [part[0], part.slice(2)]));
    const salted = crypto.pbkdf2Sync("guest", Buffer.from(said.s, "base64"), +said.i, 32, "sha256");
    const key = hmac(salted, "Client Key");
    const text = `${bare},${first},c=biws,r=${said.r}`;
    const signature = hmac(crypto.createHash("sha256").update(key).digest(), text);
    wanted = hmac(hmac(salted, "Server Key"), text).toString("base64");
    const proof = Buffer.from(key.map((byte, i) => byte ^ signature[i])).toString("base64");
    next(null, { cmd: "auth", reasonCode: 0x18, properties: { authenticationMethod: "SCRAM-SHA-256",
      authenticationData: Buffer.from(`c=biws,r=${said.r},p=${proof}`) } });
  };
  const connack = await within(new Promise((yes, no) => { client.on("connect", yes); client.on("error", no); }), "CONNACK");
  assert.strictEqual(connack.properties.authenticationData.toString(), `v=${wanted}`);
  await client.publishAsync(`${name}/a`, "x", { qos: 1 });
  await client.endAsync();
}

(async () => {
  const rows = { qos_311: () => qos(4), qos_5: () => qos(5), retained, session, properties, shared, will, scram };
  for (const [label, run] of Object.entries(rows)) {
    await run();
    console.log(`ok ${label}`);
  }
  process.exit(0);
})().catch((error) => { console.log(error.stack); process.exit(1); });
