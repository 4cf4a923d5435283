// The RxDB device: its memory storage, filled and emptied by its HTTP replication.
"use strict";

const { createRxDatabase } = require("rxdb");
const { replicateRxCollection } = require("rxdb/plugins/replication");
const { getRxStorageMemory } = require("rxdb/plugins/storage-memory");
const { all, fail, talk, timed } = require("./talk.js");

const [at, , data] = process.argv.slice(2);
const BATCH = 5000; // products a request
const text = { type: "string" };
const short = { type: "string", maxLength: 40 };
const PRODUCT = {
  version: 0,
  primaryKey: "code",
  type: "object",
  properties: {
    code: short, description: text, group: short, unit: text, price: { type: "number" }, stock: { type: "number" }, barcode: text,
    brand: short, weight: { type: "number" }, active: { type: "number" }, updated_at: text, notes: text,
  },
  required: ["code", "group", "brand"],
  indexes: ["group", "brand"],
};
const ORDER = {
  version: 0,
  primaryKey: "id",
  type: "object",
  properties: { id: short, customer: text, placed: text, note: text, lines: { type: "array", items: { type: "object" } } },
};

async function main() {
  const database = await createRxDatabase({ name: "peers", storage: getRxStorageMemory(), multiInstance: false });
  const { products, orders } = await database.addCollections({ products: { schema: PRODUCT }, orders: { schema: ORDER } });

  async function replicate(collection, way) {
    const replication = replicateRxCollection({ collection, replicationIdentifier: collection.name, live: false, ...way });
    replication.error$.subscribe(fail);
    await replication.awaitInitialReplication();
  }

  async function fetched(place, limit) {
    return (await fetch(`${at}/products?from=${place}&limit=${limit}`)).json();
  }

  async function sent(rows) {
    const headers = { "Content-Type": "application/json" };
    return (await fetch(`${at}/orders`, { method: "POST", headers, body: JSON.stringify(rows) })).json();
  }

  const handler = (checkpoint, limit) => fetched(checkpoint ? checkpoint.place : 0, limit);
  const pull = () => timed(() => replicate(products, { pull: { batchSize: BATCH, handler } }));

  async function push() {
    await orders.bulkInsert(await all(`${data}/orders.jsonl`));
    return timed(() => replicate(orders, { push: { batchSize: 100, handler: sent } }));
  }

  async function check() {
    const found = await products.find().exec();
    return { rows: found.length, stock: found.reduce((sum, product) => sum + product.stock, 0) };
  }

  talk({}, { initial: pull, delta: pull, push, check });
}

main();
