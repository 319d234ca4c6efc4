/** The benchmark of sessions, bounded: that it runs whole, and what it says beside TLS. Goals that are missed fail nothing. */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { SCALE } from '../../../e2e/eventually.ts'

const BENCH = fileURLToPath(new URL('../../../../dist/test/bench/main.js', import.meta.url))

interface Row {
  variant: string
  n: number
  p50: number
  unit: string
  note?: string
}

test('S20: the throughput of sessions is measured beside TLS and a plain socket in one run', {
  tags: ['slow'],
  timeout: 300_000 * SCALE,
}, () => {
  const args = [BENCH, 'session', '--json', '--swaps', '1', '--only', '^(?:1B|32KB|64KB|trip)-']
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' })
  expect(status, stderr).toBe(0)
  const rows = stdout
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as Row)
  const variants = rows.map(({ variant }) => variant)
  for (const what of ['1B', '32KB', '64KB', 'trip']) {
    for (const way of ['ours', 'tls', 'plain', 'ratio']) expect(variants).toContain(`${what}-${way}`)
  }
  for (const { variant, n, p50, unit, note = '' } of rows) {
    expect({ variant, n, isGood: p50 > 0 && Number.isFinite(p50) }).toEqual({ variant, n: 1, isGood: true })
    if (unit === 'x') console.log(`${variant}: ${p50} (${note})`)
  }
})
