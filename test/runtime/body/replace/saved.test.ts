import { closeSync, mkdtempSync, openSync, readdirSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { serialize } from 'node:v8'
import { expect, onTestFinished, test } from 'vitest'
import { readSaved, SAVED_FORMAT, type SavedBody, writeSaved } from '../../../../runtime/body/replace/saved.ts'

function folder(): string {
  const made = mkdtempSync(join(tmpdir(), 'medulla-saved-'))
  onTestFinished(() => rmSync(made, { recursive: true, force: true }))
  return made
}

const SAVED: SavedBody = {
  format: SAVED_FORMAT,
  from: { version: '0.1.0', main: '/a/main.js' },
  by: null,
  atNs: 1,
  dirs: { base: '/dev/shm/x', count: 3 },
  hardware: {
    handles: [['led', { fds: [20, 21], fence: 7, value: 1 }]],
    owner: { newest: 7, leases: [['led', 'main']], edges: [['button', { level: 1, ns: 5 }]] },
    sandboxes: 2,
    world: {
      pins: [],
      buses: [[1, [[0x40, 'pca9685', { registers: new Uint8Array([1, 2]) }]]]],
      spi: [],
      thermometers: [],
    },
    guard: { pid: 12, lifeline: 30 },
  },
  slots: [{ slot: 'main', log: { dropped: 0, forgotten: 0, newest: '0123456789ab-0', lines: [] }, program: null }],
  endpoint: { port: 7171, pid: 99 },
  service: { notifySocket: null, watchdogMs: null, listener: null, discovery: null },
}

test('HANDOVER 18.5: what is left is in a file without a name, and comes back as it was', () => {
  const dir = folder()
  const fd = writeSaved(dir, SAVED)
  expect(readdirSync(dir)).toEqual([])
  expect(readSaved(fd)).toEqual(SAVED)
  // it is closed
  expect(() => closeSync(fd)).toThrow('EBADF')
})

test('HANDOVER 18.5: a runtime does not go on with another version of the format', () => {
  const dir = folder()
  const fd = openSync(join(dir, 'saved'), 'wx+')
  writeSync(fd, serialize({ ...SAVED, format: 'medulla-saved/0' }))
  expect(() => readSaved(fd)).toThrow('expected format medulla-saved/2, got medulla-saved/0')
})
