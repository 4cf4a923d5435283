// The PouchDB device: replicates products from the server into LevelDB, and orders to it.
"use strict";

const PouchDB = require("pouchdb");
const { all, talk, timed } = require("./talk.js");

const [at, folder, data] = process.argv.slice(2);
const BATCH = { batch_size: 1000, batches_limit: 10 }; // with the default of 100 a batch it takes longer

const products = new PouchDB(`${folder}/products`);
const orders = new PouchDB(`${folder}/orders`);
const pull = () => timed(() => PouchDB.replicate(`${at}/products`, products, BATCH));

async function push() {
  await orders.bulkDocs((await all(`${data}/orders.jsonl`)).map(({ id, ...rest }) => ({ _id: id, ...rest })));
  return timed(() => PouchDB.replicate(orders, `${at}/orders`, BATCH));
}

async function check() {
  let rows = 0;
  let stock = 0;
  for (let page, startkey = ""; !page || page.rows.length; ) {
    page = await products.allDocs({ include_docs: true, limit: 10000, startkey });
    for (const { doc } of page.rows) {
      rows += 1;
      stock += doc.stock;
      startkey = `${doc._id}\u0000`;
    }
  }
  return { rows, stock };
}

talk({}, { initial: pull, delta: pull, push, check });
