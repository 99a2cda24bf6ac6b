// What an application does with node-redis, on a node whose port is the first argument.
//
// In the middle it prints `restart`; whoever started it restarts the node and answers with a line.

const assert = require("node:assert/strict");
const { BasicClientSideCache, createClient, createClientPool, ErrorReply, WatchError } = require("redis");
const { collect, gone, hears, play, refused: refusedAs, restart, until } = require("./session.cjs");

const port = Number(process.argv[2]);

async function connect(RESP, database) {
  const client = createClient({ socket: { port, host: "127.0.0.1" }, RESP, database });
  // What goes wrong between commands; a client that loses its node connects again by itself.
  client.on("error", () => {});
  await client.connect();
  return client;
}

const refused = (words, promise) => refusedAs(ErrorReply, words, promise);

async function values(client) {
  assert.equal(await client.set("title", "groceries"), "OK");
  assert.equal(await client.get("title"), "groceries");
  assert.equal(await client.get("missing"), null);
  await client.mSet({ a: "1", b: "2" });
  assert.deepEqual(await client.mGet(["a", "b", "missing"]), ["1", "2", null]);
  assert.equal(await client.append("title", "!"), 10);
  assert.equal(await client.incr("visits"), 1);
  assert.equal(await client.incrBy("visits", 41), 42);
  assert.equal(await client.type("visits"), "string");
  assert.equal(await client.exists(["title", "missing"]), 1);
  assert.equal(await client.del(["a", "b", "missing"]), 2);
}

async function collections(client) {
  assert.equal(await client.hSet("profile", { city: "Bergen", born: "1990" }), 2);
  assert.deepEqual({ ...(await client.hGetAll("profile")) }, { city: "Bergen", born: "1990" });
  assert.equal(await client.hIncrBy("profile", "born", 1), 1991);
  assert.equal(await client.sAdd("fruit", ["apples", "pears", "figs"]), 3);
  assert.deepEqual([...(await client.sMembers("fruit"))].sort(), ["apples", "figs", "pears"]);
  assert.deepEqual((await client.smIsMember("fruit", ["figs", "plums"])).map(Boolean), [true, false]);
  await client.sAdd("blue", ["plums", "figs"]);
  assert.deepEqual([...(await client.sInter(["fruit", "blue"]))], ["figs"]);
}

async function sortedSets(client) {
  const scores = ["ann", "bob", "eve"].map((value, score) => ({ value, score }));
  assert.equal(await client.zAdd("scores", scores), 3);
  assert.deepEqual(await client.zRangeWithScores("scores", 0, -1), scores);
  assert.equal(await client.zIncrBy("scores", 4.5, "ann"), 4.5);
  assert.equal(await client.zScore("scores", "ann"), 4.5);
  assert.equal(await client.zScore("scores", "missing"), null);
  assert.equal(await client.zRank("scores", "ann"), 2);
  assert.deepEqual(await client.zRange("scores", 1, 2, { BY: "SCORE" }), ["bob", "eve"]);
  const members = (await collect(client.zScanIterator("scores"))).map(({ value }) => value);
  assert.deepEqual(members.sort(), ["ann", "bob", "eve"]);
  assert.equal(await client.zRem("scores", ["ann", "missing"]), 1);
}

async function iteration(client) {
  const keys = Array.from({ length: 1000 }, (_, number) => `page:${number}`);
  // Commands of one tick go out together.
  await Promise.all(keys.map((key) => client.set(key, key)));
  const found = await collect(client.scanIterator({ MATCH: "page:*", COUNT: 50 }));
  assert.deepEqual([...new Set(found)].sort(), [...keys].sort());
  await client.sAdd("numbers", keys);
  const members = await collect(client.sScanIterator("numbers", { COUNT: 50 }));
  assert.deepEqual([...new Set(members)].sort(), [...keys].sort());
  await client.hSet("many", Object.fromEntries(keys.map((key) => [key, "value"])));
  const fields = (await collect(client.hScanIterator("many", { COUNT: 50 }))).map(({ field }) => field);
  assert.deepEqual([...new Set(fields)].sort(), [...keys].sort());
  assert.equal(await client.unlink(keys), 1000);
}

async function expiry(client) {
  assert.equal(await client.set("session", "s", { expiration: { type: "EX", value: 100 } }), "OK");
  const left = await client.ttl("session");
  assert.ok(left > 0 && left <= 100);
  assert.equal(await client.persist("session"), 1);
  assert.equal(await client.pExpire("session", 1), 1);
  await gone(client, "session");
  assert.equal(await client.ttl("session"), -2);
}

async function transactions(client) {
  const batch = client.multi().set("x", "1").incr("x").hSet("y", "field", "value").get("x");
  assert.deepEqual(await batch.exec(), ["OK", 2, 1, "2"]);
  const failing = client.multi().incr("x").sAdd("x", "no set").incr("x");
  const answers = await failing.exec().catch((error) => error.replies);
  assert.equal(answers[0], 3);
  assert.ok(answers[1] instanceof ErrorReply && answers[1].message.startsWith("WRONGTYPE"));
  assert.equal(answers[2], 4);
}

/** What only a total order can decide is refused, and nothing of it is done. */
async function decisions(client) {
  await refused("CONSISTENCY SET", client.set("lock", "me", { condition: "NX" }));
  await refused("CONSISTENCY WATCH", client.watch("lock"));
  await refused("CONSISTENCY SPOP", client.sPop("fruit"));
  assert.equal(await client.exists("lock"), 0);
}

/** A keyspace where the view of this node is good enough. */
async function localDecisions(RESP) {
  const client = await connect(RESP, 8);
  assert.equal(await client.sendCommand(["TIDE.KEYSPACE", "CONDITIONAL", "8", "LOCAL"]), "OK");
  await client.flushDb();
  assert.equal(await client.set("lock", "me", { condition: "NX" }), "OK");
  assert.equal(await client.set("lock", "you", { condition: "NX" }), null);
  await client.set("stock", "10");
  await client.watch("stock");
  assert.deepEqual(await client.multi().set("stock", "9").exec(), ["OK"]);
  await client.watch("stock");
  await client.set("stock", "100");
  await assert.rejects(client.multi().set("stock", "8").exec(), WatchError);
  assert.equal(await client.get("stock"), "100");
  await client.close();
}

async function errors(client) {
  await client.set("text", "words");
  await refused("WRONGTYPE", client.sAdd("text", "element"));
  await refused("value is not an integer", client.incr("text"));
  await refused("'EVAL' is not supported", client.eval("return 1"));
  await refused("unknown command 'NOSUCH'", client.sendCommand(["NOSUCH"]));
  await refused("wrong number of arguments", client.sendCommand(["GET"]));
  await refused("not supported", client.lPush("list", "element"));
  assert.equal(await client.get("text"), "words");
}

async function introspection(client) {
  assert.match(await client.info(), /redis_mode:standalone/);
  assert.equal(await client.clientSetName("tester"), "OK");
  assert.ok((await client.clientList()).some(({ name }) => name === "tester"));
  assert.equal((await client.clientInfo()).user, "default");
  assert.ok("maxclients" in (await client.configGet("*")));
  assert.ok((await client.command()).length > 100);
  assert.equal(await client.ping(), "PONG");
}

/** What it has read it reads without the node, until somebody else writes it. */
async function copies(client) {
  const clientSideCache = new BasicClientSideCache({ ttl: 0, maxEntries: 100, evictPolicy: "LRU" });
  const caching = createClient({ socket: { port, host: "127.0.0.1" }, RESP: 3, clientSideCache });
  caching.on("error", () => {});
  await caching.connect();
  for (const value of ["1", "2", "3"]) {
    await client.set("copied", value);
    await until("the copy is given up", async () => (await caching.get("copied")) === value);
    const hits = clientSideCache.stats().hitCount;
    assert.equal(await caching.get("copied"), value);
    assert.equal(clientSideCache.stats().hitCount, hits + 1);
  }
  await caching.close();
}

async function listen(RESP) {
  const [listener, heard] = [await connect(RESP), []];
  await listener.subscribe("news", (message) => heard.push(message));
  return { listener, heard };
}

async function session(RESP) {
  const client = await connect(RESP);
  await client.flushAll();
  const parts = [values, collections, sortedSets, iteration, expiry, transactions, decisions, errors, introspection];
  for (const part of parts) await part(client);
  await localDecisions(RESP);
  return client;
}

async function main() {
  const clients = [await session(2), await session(3)];
  const pool = createClientPool({ socket: { port, host: "127.0.0.1" } }, { minimum: 3 });
  pool.on("error", () => {});
  await pool.connect();
  const counted = await Promise.all(Array.from({ length: 100 }, () => pool.incr("counted")));
  assert.deepEqual(counted.sort((a, b) => a - b), Array.from({ length: 100 }, (_, number) => number + 1));
  await pool.close();

  await copies(clients[0]);
  const listeners = [await listen(2), await listen(3)];
  for (const { heard } of listeners) await hears(clients[0], heard, "hello");
  await clients[0].set("kept", "on disk");
  await restart();
  for (const client of clients) {
    assert.equal(await client.get("kept"), "on disk");
    await client.incr("restarts");
  }
  assert.equal(await clients[1].get("restarts"), "2");
  for (const { heard } of listeners) await hears(clients[1], heard, "hello again");
  await Promise.all([...clients, ...listeners.map(({ listener }) => listener)].map((client) => client.close()));
}

play(main);
