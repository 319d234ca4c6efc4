/** The effects gate: each kind of effect in each situation, in separate processes. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import { afterAll, beforeAll, expect, test } from 'vitest'

interface Said {
  /** Every effect that reports back when it has happened. */
  all: string[]
  /** Effects that came back. */
  results: Record<string, string>
  kept: { listeners: number }
  files: string[]
  logged: string
  output: string
}

const folder = mkdtempSync(join(tmpdir(), 'medulla-gate-'))
const script = join(folder, 'effects.mjs')
afterAll(() => rmSync(folder, { recursive: true, force: true }))
beforeAll(async () => {
  const source = fileURLToPath(new URL('children/effects.ts', import.meta.url))
  await build({
    entryPoints: [source],
    outfile: script,
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
  })
})

async function said(situation: string): Promise<Said> {
  const child = spawn(process.execPath, [script, folder, situation], { stdio: ['ignore', 'pipe', 'inherit'] })
  let text = ''
  child.stdout.setEncoding('utf8').on('data', (part: string) => {
    text += part
  })
  await once(child, 'close')
  const lines = text.trim().split('\n')
  return { ...(JSON.parse(lines.pop() ?? '') as Omit<Said, 'output'>), output: lines.join('\n') }
}

test.concurrent('HANDOVER 13.3, 13.4: no effect of a rehearsal happens or comes back, and its errors do not count', async () => {
  const { results, kept, files, logged, output } = await said('rehearsal')
  // a rehearsal may only read files synchronously
  expect(results).toEqual({ readFileSync: 'came back' })
  expect({ kept, files, logged, output }).toEqual({
    kept: { listeners: 0 },
    files: ['rehearsal-log'],
    logged: '',
    output: '',
  })
})

test.concurrent('HANDOVER 13.2: while the gate is closed, connections, servers and timers wait, and other effects are refused', async () => {
  const { results, files } = await said('closed')
  const refused = Object.keys(results).filter((name) => results[name]?.startsWith('refused'))
  expect(refused.sort()).toEqual(
    ['Worker', 'a class over Worker', 'appendFileSync', 'copyFileSync', 'createWriteStream', 'exec', 'execFileSync', 'execSync', 'fork', 'mkdirSync', 'mkdtempSync', 'openSync for writing', 'process.kill', 'promises.open', 'promises.writeFile', 'spawn', 'spawnSync', 'symlinkSync', 'writeFile', 'writeFileSync'].sort(), // biome-ignore format: a list
  )
  expect(new Set(refused.map((name) => results[name]))).toEqual(new Set(['refused: ERR_NOT_LIVE', 'refused: EROFS']))
  const back = Object.keys(results).filter((name) => !refused.includes(name) && !name.startsWith('a listener'))
  expect(back.filter((name) => /connect|http|fetch|listen|dgram|^set|timers|promisified/i.test(name))).toEqual([])
  expect(files).toEqual(['closed-log'])
})

test.concurrent('HANDOVER 13.2: while the program drives the hardware, all effects pass', async () => {
  const { all, results, kept, files, logged, output } = await said('live')
  const { 'uncaught Error: thrown': thrown, 'uncaught Error: rejected': rejected, ...rest } = results
  expect([thrown, rejected]).toEqual(['came back', 'came back'])
  expect(rest).toEqual(Object.fromEntries(all.map((name) => [name, 'came back'])))
  expect(kept.listeners).toBe(2)
  expect(files).toHaveLength(14)
  expect(logged).toBe('x')
  expect(output.trim()).toBe('NOISE\nNOISE')
})
