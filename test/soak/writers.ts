/** A writer for each slot: programs of test/programs, on handles of the slot's own (`dial3`, `led3`, `enable3`). */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Made, source } from '../e2e/programs.ts'
import type { TestRobot } from '../e2e/robot.ts'

export type What = 'counter' | 'counter-v2' | 'dies-in-trial'

/** Lines of the simulated chip, three to a slot. */
const LINES = Array.from({ length: 54 }, (_, i) => i)

export function boardOf(slots: number): object {
  const handles = Array.from({ length: slots }, (_, slot) => {
    const [dial, led, enable] = LINES.slice(slot * 3).map((line) => `GPIO${line}`)
    return {
      [`dial${slot}`]: { kind: 'pwm', line: dial, frequencyHz: 1000, safe: 'hold' },
      [`led${slot}`]: { kind: 'output', line: led, safe: 0 },
      [`enable${slot}`]: { kind: 'output', line: enable, safe: 'hold' },
    }
  })
  return { handles: Object.assign({}, ...handles) }
}

export function bundleOf(robot: TestRobot, slot: number, what: What): Promise<Made> {
  const folder = join(robot.folder, 'writers')
  mkdirSync(folder, { recursive: true })
  const file = join(folder, `${what}-${slot}.ts`)
  writeFileSync(file, readFileSync(source(what), 'utf8').replace(/\b(dial|led|enable)\b/g, `$1${slot}`))
  return robot.bundle(what, { program: `writer-${slot}`, file })
}
