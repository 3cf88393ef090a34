// Run by test_clients.py: what a program with @clickhouse/client does, its findings as JSON.
import { createClient } from '@clickhouse/client'

const [url, username, database] = process.argv.slice(2)
const password = process.env.PASSWORD
const plain = createClient({ url, username, password, database })
const packed = createClient({
  url, username, password, database, session_id: 'node-' + Date.now(), compression: { request: true, response: true },
})
const found = { failed: [] }

await plain.insert({ table: 't', columns: ['id', 'price'], values: [{ id: 1, price: 0.5 }, { id: 2, price: 1.5 }], format: 'JSONEachRow' })
found.rows = await (await plain.query({ query: 'SELECT id, price FROM t ORDER BY id', format: 'JSONEachRow' })).json()

found.streamed = 0
const stream = await plain.query({ query: 'SELECT number FROM numbers(200000)', format: 'JSONEachRow' })
for await (const rows of stream.stream()) found.streamed += rows.length

found.parameter = await (await plain.query({
  query: 'SELECT {x:String} AS x', query_params: { x: "it's" }, format: 'JSONEachRow',
})).json()

await packed.command({ query: 'CREATE TEMPORARY TABLE mine (a UInt8)' })
await packed.insert({ table: 'mine', values: [{ a: 7 }], format: 'JSONEachRow' })
found.session = await (await packed.query({ query: 'SELECT a FROM mine', format: 'JSONEachRow' })).json()
await packed.insert({ table: 't', columns: ['id', 'price'], values: [{ id: 3, price: 2 }], format: 'JSONEachRow' })
found.gzip = (await (await packed.query({ query: 'SELECT count() AS c FROM t', format: 'JSON' })).json()).data[0].c

for (const failing of [
  () => plain.insert({ table: 't', columns: ['id', 'price'], values: [{ id: 4, price: -1 }], format: 'JSONEachRow' }),
  () => packed.insert({ table: 't', columns: ['id', 'price'], values: [{ id: 4, price: -1 }], format: 'JSONEachRow' }),
  () => plain.query({ query: 'SELECT * FROM missing' }),
]) {
  try { await failing(); found.failed.push('no error') } catch (error) { found.failed.push(error.code) }
}

const abort = new AbortController()
setTimeout(() => abort.abort(), 200)
try {
  await plain.query({ query: 'SELECT count() FROM system.numbers', abort_signal: abort.signal })
  found.aborted = false
} catch { found.aborted = true }

await plain.close()
await packed.close()
console.log(JSON.stringify(found))
