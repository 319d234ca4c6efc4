import { closeSync, mkdirSync, mkdtempSync, openSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { HangTrace, hangPlace, openMap } from '../../../../runtime/body/sandbox/hangplace.ts'
import { runDirAt } from '../../../../runtime/body/sandbox/rundir.ts'
import { bundle } from './cage.ts'

const HEADER = 'KEYBOARD_INTERRUPT: Script execution was interrupted by `SIGINT`'
const CALL = '    at seek (file:///run/medulla/program/program.mjs:1:1)'

let folder: string
let script: URL
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'medulla-hang-'))
  writeFileSync(join(folder, 'package.json'), '{"type":"module"}')
  script = new URL(
    `file://${bundle(join(import.meta.dirname, '../../../../runtime/body/sandbox/hangworker.ts'), folder)}`,
  )
  mkdirSync(join(folder, 'program'))
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const MAP = join('program', 'program.mjs.map')
const placed = (text: string, stack = CALL) => {
  writeFileSync(join(folder, MAP), text)
  return hangPlace({ stack, fd: openMap(runDirAt(folder)) }, 4, script)
}
const descriptors = () => readdirSync('/proc/self/fd').length

test('HANDOVER 4.11: only the first stack after the request is taken, and no more than ten calls of 400 characters', () => {
  const trace = new HangTrace()
  expect([HEADER, CALL, ''].map((line) => trace.take(line))).toEqual([false, false, false])
  trace.ask()
  expect(['other', HEADER].map((line) => trace.take(line))).toEqual([false, true])
  for (let n = 0; n < 10; n++) expect(trace.take(CALL.padEnd(4000, 'x'))).toBe(true)
  expect([trace.take(CALL), trace.isComplete]).toEqual([false, true])
  expect(trace.stack.length).toBeLessThan(10 * 401)
  expect([trace.take(HEADER), trace.take(CALL)]).toEqual([false, false])
})

test('HANDOVER 4.11: a stack is mapped to the author’s file', async () => {
  const before = descriptors()
  const map = { version: 3, sources: ['program.ts'], names: [], mappings: 'AAcM' }
  expect(await placed(JSON.stringify(map))).toEqual({
    text: 'it hangs at program.ts:15:7',
    stack: 'it hangs at program.ts:15:7',
  })
  expect(await placed(JSON.stringify(map), '')).toBeNull()
  expect(await placed(JSON.stringify(map), '    at x (file:///usr/lib/other.mjs:1:1)')).toBeNull()
  expect(descriptors()).toBe(before)
})

test('HANDOVER 4.11: a map that is no map, is too large, or is made to exhaust its thread costs the place and no more', async () => {
  const before = descriptors()
  const inBundle = { text: 'it hangs at program.mjs:1:1' }
  expect(await placed('{')).toMatchObject(inBundle)
  expect(await placed(`"${'x'.repeat(2 * 1024 * 1024)}"`)).toMatchObject(inBundle)
  const began = performance.now()
  const bomb = await placed(
    `{"version":3,"sources":["program.ts"],"names":[],"mappings":"${'AAAA,'.repeat(419_000)}AAAA"}`,
  )
  expect([null, 'it hangs at program.ts:1:1']).toContain(bomb?.text ?? null)
  expect(performance.now() - began).toBeLessThan(20_000)
  rmSync(join(folder, MAP))
  symlinkSync('/etc/passwd', join(folder, MAP))
  expect(openMap(runDirAt(folder))).toBeNull()
  const fd = openSync('/dev/zero', 'r')
  expect(await hangPlace({ stack: CALL, fd }, 4, script)).toMatchObject(inBundle)
  expect(() => closeSync(fd)).toThrow('EBADF')
  expect(descriptors()).toBe(before)
})
