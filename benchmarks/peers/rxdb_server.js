// The server that RxDB's HTTP replication is told to be given: a log of products in memory, and orders that arrive.
"use strict";

const express = require("express");
const { batches, talk } = require("./talk.js");

const [, data] = process.argv.slice(2);

async function main() {
  const log = []; // a product stands at the place of its last change; a checkpoint is a place
  for await (const batch of batches(`${data}/products.jsonl`, 10000)) {
    for (const product of batch) log.push({ ...product, _deleted: false });
  }
  const loaded = log.length;
  const orders = new Map();

  function change() {
    for (let n = 0; n < loaded; n += 100) {
      log.push({ ...log[n], stock: log[n].stock + 1 });
      log[n] = null;
    }
    return {};
  }

  function held() {
    return { orders: orders.size, lines: [...orders.values()].reduce((sum, order) => sum + order.lines.length, 0) };
  }

  const app = express();
  app.use(express.json({ limit: "16mb" }));
  app.get("/products", (request, response) => {
    const from = Number(request.query.from);
    const to = Math.min(from + Number(request.query.limit), log.length);
    response.json({ documents: log.slice(from, to).filter(Boolean), checkpoint: { place: to } });
  });
  app.post("/orders", (request, response) => {
    for (const { newDocumentState } of request.body) orders.set(newDocumentState.id, newDocumentState);
    response.json([]); // no conflicts
  });
  const server = app.listen(0, "127.0.0.1", () => {
    talk({ at: `http://127.0.0.1:${server.address().port}` }, { change, orders: held });
  });
}

main();
