/**
 * From power-on to the program, of the card image in QEMU's `virt` machine: what the kernel, Debian and we take. The times are the
 * guest's own, in a machine that translates every instruction. MEDULLA_IMAGE names the image (`npm run image`).
 */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Card, Machine } from '../image/machine.ts'
import type { BenchOptions } from './main.ts'
import { writeProgram } from './programs.ts'
import { cli, temporary } from './rig.ts'
import { Series } from './stats.ts'

const STARTS = 5
/** Our part of a start, in ms. */
const GOAL = { max: 3000 }
const PROGRAM = `import { robot } from 'medulla'
robot({ led: 'output' }, ({ led, every }) => { every(100, () => led.write(!led.value)) })
`
/** Deadlines that the machine can meet, without a factor that would make trials longer. */
const timing = { readyMs: 60_000, yieldMs: 10_000, takeoverMs: 10_000, heartbeatMs: 10_000 }
const BOARD = { model: 'linux', chip: '9030000.pl061', timing, handles: { led: { kind: 'output', line: 'GPIO0' } } }
/** READY comes when the program runs (HANDOVER 16.2). */
const TIMES = ['InactiveExitTimestampMonotonic', 'ActiveEnterTimestampMonotonic']

export async function boot({ samples = STARTS, wanted, report }: BenchOptions): Promise<Series[]> {
  const image = process.env.MEDULLA_IMAGE
  if (image === undefined) throw new Error('MEDULLA_IMAGE: expected the image of a card (npm run image makes one)')
  const dir = temporary()
  const config = join(dir, 'config')
  await cli(config, ['keygen'])
  const key = join(config, 'id_ed25519')
  const board = join(dir, 'board.json')
  await writeFile(board, JSON.stringify(BOARD))
  const program = await writeProgram(dir, 'blink', PROGRAM)
  const card = new Card(image, join(dir, 'card'))
  await cli(config, ['image', '--board', board, '--program', program, '--ssh', `${key}.pub`, card.disk])

  const series = (variant: string, note: string, goal?: { max: number }) =>
    new Series('boot', variant, 'ms', { note, ...(goal && { goal }) })
  const parts = {
    kernel: series('kernel', 'the kernel and its initial RAM disk'),
    system: series('system', "Debian's units, until ours is started"),
    ours: series('ours', 'the service, until its program runs', GOAL),
    all: series('all', 'from power-on until the program runs'),
    first: series('first', 'the same at the first start, with the settings of the card'),
  }
  const machine = new Machine(card, 'virt', 1)
  process.once('exit', () => void machine.cut())
  for (let at = 0; at <= samples; at++) {
    report.progress(`boot: start ${at} of ${samples}`)
    if (at === 0) await machine.start(key)
    else await machine.reboot(key)
    const [begun = Number.NaN, ready = Number.NaN] = await readyTimes(machine, key)
    const userspace = Number(machine.ssh(key, 'systemctl show -p UserspaceTimestampMonotonic --value').stdout) / 1000
    if (at === 0) {
      parts.first.add(ready)
      continue
    }
    parts.kernel.add(userspace)
    parts.system.add(begun - userspace)
    parts.ours.add(ready - begun)
    parts.all.add(ready)
  }
  await machine.cut()
  const all = Object.values(parts).filter(({ variant }) => wanted(variant))
  for (const each of all) report.row(each.row())
  return all
}

/** ms since power-on at which the service was begun, and at which it was ready. */
async function readyTimes(machine: Machine, key: string): Promise<number[]> {
  // `start` waits for the start that is under way
  machine.ssh(key, 'sudo systemctl start medulla')
  const shown = machine.ssh(key, `systemctl show medulla ${TIMES.map((name) => `-p ${name}`).join(' ')}`).stdout
  return TIMES.map((name) => Number(new RegExp(`^${name}=(\\d+)$`, 'm').exec(shown)?.[1]) / 1000)
}
