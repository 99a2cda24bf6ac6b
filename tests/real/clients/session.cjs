// What sessions with clients of Node.js have in common.

const assert = require("node:assert/strict");
const readline = require("node:readline/promises");
const { setTimeout } = require("node:timers/promises");

/** Waits until something holds. */
async function until(what, holds) {
  const end = Date.now() + 60_000;
  while (!(await holds())) {
    assert.ok(Date.now() < end, what);
    await setTimeout(10);
  }
}

/** The client makes this error of what the node answers. */
function refused(Kind, words, promise) {
  return assert.rejects(promise, (error) => error instanceof Kind && error.message.includes(words));
}

function gone(client, key) {
  return until(`${key} does not expire`, async () => (await client.get(key)) === null);
}

async function collect(pages) {
  const all = [];
  for await (const page of pages) all.push(...page);
  return all;
}

/** Says it until it is heard: who was cut off subscribes again first. */
function hears(client, heard, text) {
  return until(`${text} is not heard`, async () => {
    await client.publish("news", text);
    return heard.includes(text);
  });
}

/** Whoever started the session restarts the node and answers with a line. */
async function restart() {
  console.log("restart");
  const lines = readline.createInterface({ input: process.stdin });
  await new Promise((resolve, reject) => lines.once("line", resolve).once("close", reject));
  lines.close();
}

function play(session) {
  session().then(
    () => {
      console.log("done");
      process.exit(0);
    },
    (error) => {
      console.error(error);
      process.exit(1);
    },
  );
}

module.exports = { collect, gone, hears, play, refused, restart, until };
