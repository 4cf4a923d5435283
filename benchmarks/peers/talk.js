// How a program of this folder talks with the command that measures it: a word a line in, a line of JSON out.
"use strict";

const fs = require("fs");
const readline = require("readline");

/** Says that it is ready, with `first`, and answers each word by the function of that name. */
async function talk(first, words) {
  if (global.gc) global.gc(); // what was needed to get ready is no part of the peak
  console.log(JSON.stringify(first));
  for await (const word of readline.createInterface({ input: process.stdin })) {
    console.log(JSON.stringify(await words[word]()));
  }
  process.exit(0);
}

/** Runs `work` and answers with the seconds that it took. */
async function timed(work) {
  const started = performance.now();
  await work();
  return { seconds: (performance.now() - started) / 1000 };
}

/** The records of a file, a JSON object a line, in arrays of at most `size`. */
async function* batches(path, size) {
  let batch = [];
  for await (const line of readline.createInterface({ input: fs.createReadStream(path) })) {
    if (batch.push(JSON.parse(line)) === size) {
      yield batch;
      batch = [];
    }
  }
  if (batch.length) yield batch;
}

/** All records of a short file. */
async function all(path) {
  const found = [];
  for await (const batch of batches(path, 1000)) found.push(...batch);
  return found;
}

/** Ends the program on an error that nobody handles, instead of waiting for ever. */
function fail(error) {
  console.error(error);
  process.exit(1);
}

process.on("unhandledRejection", fail);

module.exports = { all, batches, fail, talk, timed };
