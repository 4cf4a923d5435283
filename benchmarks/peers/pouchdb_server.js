// The PouchDB server: express-pouchdb over LevelDB, with the products loaded and an empty database for orders.
"use strict";

const express = require("express");
const expressPouchDB = require("express-pouchdb");
const PouchDB = require("pouchdb");
const { batches, talk } = require("./talk.js");

const [folder, data] = process.argv.slice(2);

async function main() {
  const Stored = PouchDB.defaults({ prefix: `${folder}/` });
  const products = new Stored("products");
  const orders = new Stored("orders");
  await orders.info(); // creates it
  for await (const batch of batches(`${data}/products.jsonl`, 5000)) {
    await products.bulkDocs(batch.map(({ code, ...rest }) => ({ _id: code, ...rest })));
  }

  async function change() {
    for await (const batch of batches(`${data}/products.jsonl`, 10000)) {
      const keys = batch.filter((_, n) => n % 100 === 0).map((product) => product.code);
      const { rows } = await products.allDocs({ keys, include_docs: true });
      await products.bulkDocs(rows.map(({ doc }) => ({ ...doc, stock: doc.stock + 1 })));
    }
    return {};
  }

  async function held() {
    const { rows } = await orders.allDocs({ include_docs: true });
    return { orders: rows.length, lines: rows.reduce((sum, { doc }) => sum + doc.lines.length, 0) };
  }

  const app = express();
  app.use(expressPouchDB(Stored, { mode: "minimumForPouchDB", inMemoryConfig: true, logPath: `${folder}/log.txt` }));
  const server = app.listen(0, "127.0.0.1", () => {
    talk({ at: `http://127.0.0.1:${server.address().port}` }, { change, orders: held });
  });
}

main();
