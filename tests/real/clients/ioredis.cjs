// What an application does with ioredis, on a node whose port is the first argument.
//
// In the middle it prints `restart`; whoever started it restarts the node and answers with a line.

const assert = require("node:assert/strict");
const Redis = require("ioredis");
const { collect, gone, hears, play, refused: refusedAs, restart } = require("./session.cjs");

const port = Number(process.argv[2]);
const { ReplyError } = Redis;

function connect(options) {
  const client = new Redis({ port, host: "127.0.0.1", ...options });
  // What goes wrong between commands; a client that loses its node connects again by itself.
  client.on("error", () => {});
  return client;
}

const refused = (words, promise) => refusedAs(ReplyError, words, promise);

async function values(client) {
  assert.equal(await client.set("title", "groceries"), "OK");
  assert.equal(await client.get("title"), "groceries");
  assert.equal(await client.get("missing"), null);
  await client.mset({ a: 1, b: 2 });
  assert.deepEqual(await client.mget("a", "b", "missing"), ["1", "2", null]);
  assert.equal(await client.incrby("visits", 42), 42);
  const bytes = Buffer.from([0, 255, 13, 10, 0]);
  assert.equal(await client.set(bytes, bytes), "OK");
  assert.deepEqual(await client.getBuffer(bytes), bytes);
  assert.equal(await client.del("a", "b", "missing"), 2);
}

async function collections(client) {
  assert.equal(await client.hset("profile", { city: "Bergen", born: 1990 }), 2);
  assert.deepEqual(await client.hgetall("profile"), { city: "Bergen", born: "1990" });
  assert.equal(await client.hincrby("profile", "born", 1), 1991);
  assert.equal(await client.sadd("fruit", "apples", "pears", "figs"), 3);
  assert.deepEqual((await client.smembers("fruit")).sort(), ["apples", "figs", "pears"]);
  assert.deepEqual(await client.smismember("fruit", "figs", "plums"), [1, 0]);
}

async function sortedSets(client) {
  assert.equal(await client.zadd("scores", 1, "ann", 2.5, "bob", -1, "eve"), 3);
  assert.deepEqual(await client.zrange("scores", 0, -1, "WITHSCORES"), ["eve", "-1", "ann", "1", "bob", "2.5"]);
  assert.equal(await client.zincrby("scores", 4, "ann"), "5");
  assert.equal(await client.zscore("scores", "missing"), null);
  assert.equal(await client.zrank("scores", "ann"), 2);
  assert.deepEqual(await client.zrangebyscore("scores", "(0", "+inf"), ["bob", "ann"]);
  assert.equal((await collect(client.zscanStream("scores"))).length, 6);
  assert.equal(await client.zrem("scores", "ann", "missing"), 1);
}

async function iteration(client) {
  const keys = Array.from({ length: 1000 }, (_, number) => `page:${number}`);
  const pipeline = client.pipeline();
  keys.forEach((key) => pipeline.set(key, key).get(key));
  const answers = await pipeline.exec();
  assert.deepEqual(answers, keys.flatMap((key) => [[null, "OK"], [null, key]]));
  const found = await collect(client.scanStream({ match: "page:*", count: 50 }));
  assert.deepEqual([...new Set(found)].sort(), [...keys].sort());
  await client.sadd("numbers", keys);
  const members = await collect(client.sscanStream("numbers", { count: 50 }));
  assert.deepEqual([...new Set(members)].sort(), [...keys].sort());
  await client.hset("many", Object.fromEntries(keys.map((key) => [key, "value"])));
  const pairs = await collect(client.hscanStream("many", { count: 50 }));
  const fields = pairs.filter((_, index) => index % 2 === 0);
  assert.deepEqual([...new Set(fields)].sort(), [...keys].sort());
  assert.equal(await client.unlink(keys), 1000);
}

async function expiry(client) {
  assert.equal(await client.set("session", "s", "EX", 100), "OK");
  const left = await client.ttl("session");
  assert.ok(left > 0 && left <= 100);
  assert.equal(await client.persist("session"), 1);
  assert.equal(await client.pexpire("session", 1), 1);
  await gone(client, "session");
}

async function transactions(client) {
  const batch = client.multi().set("x", 1).incr("x").hset("y", "field", "value").get("x");
  assert.deepEqual(await batch.exec(), [[null, "OK"], [null, 2], [null, 1], [null, "2"]]);
  const answers = await client.multi().incr("x").sadd("x", "no set").incr("x").exec();
  assert.deepEqual([answers[0], answers[2]], [[null, 3], [null, 4]]);
  assert.ok(answers[1][0] instanceof ReplyError && answers[1][0].message.startsWith("WRONGTYPE"));
  await client.multi({ pipeline: false });
  await client.set("x", 7);
  assert.equal(await client.discard(), "OK");
  assert.equal(await client.get("x"), "4");
}

/** What only a total order can decide is refused, and nothing of it is done. */
async function decisions(client) {
  await refused("CONSISTENCY SET", client.set("lock", "me", "PX", 60_000, "NX"));
  await refused("CONSISTENCY WATCH", client.watch("lock"));
  await refused("CONSISTENCY SETNX", client.setnx("lock", "me"));
  assert.equal(await client.exists("lock"), 0);
}

/** A keyspace where the view of this node is good enough. */
async function localDecisions() {
  const client = connect({ db: 9 });
  assert.equal(await client.call("TIDE.KEYSPACE", "CONDITIONAL", "9", "LOCAL"), "OK");
  await client.flushdb();
  assert.equal(await client.set("lock", "me", "PX", 60_000, "NX"), "OK");
  assert.equal(await client.set("lock", "you", "PX", 60_000, "NX"), null);
  await client.set("stock", 10);
  await client.watch("stock");
  assert.deepEqual(await client.multi().set("stock", 9).exec(), [[null, "OK"]]);
  await client.watch("stock");
  await client.set("stock", 100);
  assert.equal(await client.multi().set("stock", 8).exec(), null);
  assert.equal(await client.get("stock"), "100");
  client.disconnect();
}

async function errors(client) {
  await client.set("text", "words");
  await refused("WRONGTYPE", client.sadd("text", "element"));
  await refused("value is not an integer", client.incr("text"));
  client.defineCommand("scripted", { numberOfKeys: 0, lua: "return 1" });
  await refused("not supported", client.scripted());
  await refused("unknown command 'NOSUCH'", client.call("NOSUCH"));
  await refused("wrong number of arguments", client.call("GET"));
  await refused("not supported", client.lpush("list", "element"));
  assert.equal(await client.get("text"), "words");
}

async function introspection(client) {
  assert.match(await client.info(), /redis_mode:standalone/);
  assert.equal(await client.client("SETNAME", "tester"), "OK");
  assert.match(await client.client("LIST"), / name=tester /);
  assert.ok((await client.config("GET", "*")).includes("maxclients"));
  assert.equal(await client.ping(), "PONG");
}

async function main() {
  const client = connect();
  await client.flushall();
  const parts = [values, collections, sortedSets, iteration, expiry, transactions, decisions, errors, introspection];
  for (const part of parts) await part(client);
  await localDecisions();
  // Commands of one tick go out together.
  const automatic = connect({ enableAutoPipelining: true });
  const counted = await Promise.all(Array.from({ length: 1000 }, () => automatic.incr("counted")));
  assert.deepEqual(counted, Array.from({ length: 1000 }, (_, number) => number + 1));

  const [listener, heard] = [connect(), []];
  listener.on("message", (channel, message) => heard.push(message));
  assert.equal(await listener.subscribe("news"), 1);
  await hears(client, heard, "hello");

  await client.set("kept", "on disk");
  await restart();
  for (const each of [client, automatic]) {
    assert.equal(await each.get("kept"), "on disk");
    await each.incr("restarts");
  }
  assert.equal(await client.get("restarts"), "2");
  await hears(client, heard, "hello again");
  await Promise.all([client.quit(), automatic.quit(), listener.quit()]);
}

play(main);
