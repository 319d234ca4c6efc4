import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { BoardHandle } from '../../../../drivers/board/types.ts'
import { grantOf } from '../../../../drivers/owner/backend.ts'
import { SimBackend } from '../../../../drivers/owner/sim/backend.ts'
import { type TraceEntry, World } from '../../../../drivers/owner/sim/world.ts'
import type { Edge } from '../../../../drivers/program/handle.ts'
import { encodeWriteRecord, WRITE_RECORD_SIZE } from '../../../../drivers/program/inherit/record.ts'
import { bundle, openFds, startHost, temporary } from '../../host.ts'
import { board, FIRST_FD } from '../../rigs.ts'

const folder = temporary()
let program: string

beforeAll(async () => {
  program = await bundle('children/host.ts', folder.path)
})
afterAll(() => folder.remove())

const entries = board('inherit')
const led = entries.led as BoardHandle

function backendOf(world = new World()) {
  const path = join(folder.path, 'handles')
  return { backend: new SimBackend({ world, folder: path }), world, path }
}

function record(id: number, fence: number, value: number): Uint8Array {
  const bytes = new Uint8Array(WRITE_RECORD_SIZE)
  encodeWriteRecord(new DataView(bytes.buffer), id, fence, process.hrtime.bigint(), value)
  return bytes
}

test('HANDLES 9.5: open handles have no path, and closed ones leave no descriptor', async () => {
  const before = openFds()
  const { backend, path } = backendOf()
  for (const [index, [name, entry]] of Object.entries(entries).entries()) backend.open(name, index + 1, entry)
  expect(readdirSync(path)).toEqual([])
  expect(openFds()).toBeGreaterThan(before)
  backend.close()
  backend.close()
  await expect.poll(openFds).toBe(before)
})

test('HANDLES 3.7: a grant says no path and no name of a device', () => {
  const { backend, path } = backendOf()
  for (const [index, [name, entry]] of Object.entries(entries).entries()) {
    const owned = backend.open(name, index + 1, entry)
    const source = owned.grant()
    const said = JSON.stringify(grantOf(owned, source, source.via === 'inherit' ? FIRST_FD : undefined))
    expect(said).not.toMatch(/[/]|gpiochip|i2c-[0-9]|spidev|pwmchip/)
    expect(said).not.toContain(path)
  }
  backend.close()
})

test('HANDLES 4.3, 4.4: foreign, invalid and broken records change nothing, and the next valid one works', () => {
  const { backend } = backendOf()
  const handle = backend.open('led', 7, led)
  const source = handle.grant()
  if (source.via !== 'inherit') throw new Error('expected an inherited handle')
  backend.advance(1, [])
  writeSync(source.fd, record(8, 1, 1))
  writeSync(source.fd, record(7, 1, 0.5))
  writeSync(source.fd, record(7, 1, Number.NaN))
  writeSync(source.fd, record(7, 2, 1))
  writeSync(source.fd, 'rubbish')
  writeSync(source.fd, record(7, 1, 1).subarray(5))
  expect(handle.value()).toBe(0)
  expect(backend.info('led')).toMatchObject({ edges: 0, staleWrites: 1, opens: 1, initWrites: 1 })
  writeSync(source.fd, record(7, 1, 1))
  expect(handle.value()).toBe(1)
  backend.close()
})

test('HANDLES 4.5: a record written before the fence was raised counts; a later one is stale', () => {
  const { backend } = backendOf()
  const handle = backend.open('led', 1, led)
  const source = handle.grant()
  if (source.via !== 'inherit') throw new Error('expected an inherited handle')
  backend.advance(1, ['led'])
  writeSync(source.fd, record(1, 1, 1))
  backend.advance(2, ['led', 'not-there'])
  writeSync(source.fd, record(1, 1, 0))
  expect(handle.value()).toBe(1)
  expect(backend.info('led')).toMatchObject({ fence: 2, edges: 1, staleWrites: 1 })
  handle.drive(0, 2)
  expect(() => handle.drive(1, 1)).toThrow('fence 1 is not the current one (2)')
  backend.close()
  expect(() => handle.value()).toThrow('led: the handle is closed')
  expect(backend.info('led')).toBeNull()
})

test('HANDLES 3.1: a line, a name or an id can be opened once', () => {
  const { backend } = backendOf()
  backend.open('led', 1, led)
  expect(() => backend.open('lamp', 2, led)).toThrow('lamp: GPIO17 is held by led')
  expect(() => backend.open('arm', 1, entries.arm as BoardHandle)).toThrow('arm: id 1 is held by led')
  expect(() => backend.open('arm', 70_000, entries.arm as BoardHandle)).toThrow('arm: id 70000 is not 16 bits')
  backend.open('imu', 3, entries.imu as BoardHandle)
  const held = backend.list().filter(({ user }) => user !== null)
  expect(held).toEqual([
    { line: 'GPIO17', user: 'led', kind: 'output' },
    { line: 'i2c-1@0x68', user: 'imu', kind: 'i2c' },
  ])
  expect(backend.list().length).toBe(55)
  backend.close()
})

test("writes arrive with the writer's time stamp, and a wired input follows", async () => {
  const before = openFds()
  const { backend, world } = backendOf(new World({ wires: [['led', 'button']] }))
  const output = backend.open('led', 1, led)
  const input = backend.open('button', 2, entries.button as BoardHandle)
  const edges: Edge[] = []
  input.onEdge((edge) => edges.push(edge))
  const changes: TraceEntry[] = []
  world.onChange((change) => changes.push(change))
  const sources = [output.grant(), input.grant()]
  const fds = sources.map((source) => (source.via === 'inherit' ? source.fd : -1))
  const grants = [output, input].map((handle, index) => grantOf(handle, handle.grant(), FIRST_FD + index))
  const host = await startHost(program, grants, fds)
  backend.advance(3, ['led'])
  await host.send({ op: 'lease', lease: { live: true, fence: 3 } })
  const from = process.hrtime.bigint()
  for (const level of [1, 0, 1]) await host.call('led', 'write', level)
  await expect.poll(() => edges.length).toBe(3)
  const to = process.hrtime.bigint()
  expect(edges.map(({ level, seqno }) => [level, seqno])).toEqual([
    [1, 1],
    [0, 2],
    [1, 3],
  ])
  expect(await host.call('button', 'read')).toBe(1)
  const writes = changes.filter(({ name }) => name === 'led')
  expect(writes.map(({ value, fence, accepted }) => [value, fence, accepted])).toEqual([
    [1, 3, true],
    [0, 3, true],
    [1, 3, true],
  ])
  for (const { ns } of writes) expect(ns > from && ns < to).toBe(true)
  await host.end()
  backend.close()
  await expect.poll(openFds).toBe(before)
})

test('HANDLES 3.9: another process continues on adopted descriptors without opening or writing', async () => {
  const before = openFds()
  const { backend } = backendOf()
  const handle = backend.open('led', 1, led)
  backend.advance(4, ['led'])
  handle.drive(1, 4)
  const kept = backend.info('led')?.kept
  if (kept === undefined) throw new Error('expected an open handle')
  const heir = await bundle('children/heir.ts', folder.path, 'heir.mjs')
  const child = spawn(process.execPath, [heir], { stdio: ['pipe', 'pipe', 'inherit', ...kept.fds], env: {} })
  backend.close()
  const said: Buffer[] = []
  child.stdout?.on('data', (chunk: Buffer) => said.push(chunk))
  child.stdin?.end(
    JSON.stringify({ folder: join(folder.path, 'heir'), entry: led, value: kept.value, fence: kept.fence }),
  )
  await once(child, 'close')
  const answer = JSON.parse(Buffer.concat(said).toString())
  // the trace was empty until the record came: opening drove nothing
  expect(answer).toMatchObject({ value: 0, grant: { via: 'inherit', fd: 4, encoding: 'record' } })
  expect(answer.before).toBe(0)
  expect(answer.info).toMatchObject({ opens: 0, initWrites: 0, edges: 1, fence: 4 })
  await expect.poll(openFds).toBe(before)
})

test('HANDLES 6.3: swaps over a held level cause no edge, no opening and no initial write', async () => {
  const { backend } = backendOf()
  const handle = backend.open('led', 1, led)
  const source = handle.grant()
  if (source.via !== 'inherit') throw new Error('expected an inherited handle')
  for (let fence = 1; fence <= 6; fence++) {
    backend.advance(fence, ['led'])
    const host = await startHost(program, [grantOf(handle, source, FIRST_FD)], [source.fd])
    expect(await host.send({ op: 'get', handle: 'led', property: 'value' })).toBe(fence === 1 ? 0 : 1)
    await host.send({ op: 'lease', lease: { live: true, fence } })
    await host.call('led', 'write', 1)
    await host.end('SIGKILL')
  }
  expect(backend.info('led')).toMatchObject({ value: 1, edges: 1, opens: 1, initWrites: 1, staleWrites: 0, fence: 6 })
  backend.close()
})
