/**
 * The control gap: from the literal last write of the old program to the first of the new one, both at 1 kHz.
 *
 * Variants take turns in blocks of a few swaps; only the one whose turn it is runs, so none pays for another's loop.
 */
import { canConfine } from '../../runtime/body/sandbox/confinement.ts'
import { Alternative } from './alternatives.ts'
import type { BenchOptions } from './main.ts'
import { OurSwaps } from './ours.ts'
import { BenchRobot } from './rig.ts'
import { type Goal, ratio, type Series } from './stats.ts'

const SWAPS = 300
const ROUNDS = 10
const SIZES = [
  ['1KB', 1024],
  ['1MB', 1024 * 1024],
] as const
const NORMAL: Goal = { p50: 0.15, p99: 1 }
const REALTIME: Goal = { p50: 0.1, p99: 0.25 }
const RATIO = 100

/** Something that can be told to run, to swap, and to rest. */
interface Contender {
  readonly series: readonly Series[]
  begin(): Promise<void>
  /** Adds a sample, or a failure, to each of its series. */
  swap(): Promise<void>
  rest(): Promise<void>
}

interface Variant {
  variant: string
  handle: 'direct' | 'remote'
  size: number
  /** Fence and start are rows, too. */
  timed: boolean
  messages?: number
}

/** Robots by how they confine programs, and what is measured on each. */
const ROBOTS: { sandbox: 'none' | 'namespaces'; variants: Variant[] }[] = [
  {
    sandbox: 'none',
    variants: [
      ...SIZES.flatMap(([label, size]): Variant[] => [
        { variant: `inherited-${label}`, handle: 'direct', size, timed: label === '1KB' },
        { variant: `brokered-${label}`, handle: 'remote', size, timed: false },
      ]),
      { variant: 'channel-1KB', handle: 'direct', size: 1024, timed: false, messages: 1 },
      { variant: 'flooded-channel-1KB', handle: 'direct', size: 1024, timed: false, messages: 64 },
    ],
  },
  { sandbox: 'namespaces', variants: [{ variant: 'confined-1KB', handle: 'direct', size: 1024, timed: true }] },
]

/** A reason; null: it can be had. */
function impossible(sandbox: 'none' | 'namespaces'): string | null {
  if (sandbox === 'none') return null
  const able = canConfine(sandbox)
  return able.ok ? null : able.why
}

export async function gap({ samples = SWAPS, wanted, realtime, report }: BenchOptions): Promise<Series[]> {
  const contenders: Contender[] = []
  const robots: BenchRobot[] = []
  const priorities = realtime ? (['', '-fifo'] as const) : ([''] as const)
  for (const suffix of priorities) {
    for (const { sandbox, variants } of ROBOTS) {
      const chosen = variants.filter(({ variant }) => wanted(`${variant}${suffix}`))
      const why = chosen.length === 0 ? '' : impossible(sandbox)
      if (why !== null) {
        if (why !== '') report.say(`${sandbox} cannot be had here (${why}): its variants are left out`)
        continue
      }
      report.progress('starting a simulated robot')
      const robot = await BenchRobot.start({
        handles: {
          direct: { kind: 'output', line: 'GPIO17', via: 'inherit' },
          remote: { kind: 'output', line: 'GPIO27', via: 'broker' },
        },
        // a second is for people; nothing of the gap depends on it, and 2,400 swaps have to end
        timing: { trialMs: 15 },
        realtime: suffix === '' ? 0 : 50,
        sandbox,
      })
      robots.push(robot)
      const { fence } = await (await robot.connect()).status()
      const stop = sandbox === 'none' ? 'SIGSTOP' : fence === 'cgroup' ? 'cgroup v2 freeze' : 'SIGSTOP, confined'
      for (const { variant, handle, size, timed, messages } of chosen) {
        // the goals of a gap are for inherited handles of a program without channels
        const goal = handle === 'remote' || messages !== undefined ? undefined : suffix === '' ? NORMAL : REALTIME
        const about = { variant: `${variant}${suffix}`, handle, size, goal, stop: timed ? stop : undefined, messages }
        contenders.push(await OurSwaps.make(robot, about))
      }
    }
  }
  for (const way of ['kill-respawn', 'json-ipc'] as const) {
    for (const [label, size] of SIZES) {
      if (wanted(`${way}-${label}`)) contenders.push(await Alternative.make(way, `${way}-${label}`, size))
    }
  }
  if (!realtime) report.say('SCHED_FIFO cannot be had here (chrt -f): its variants are left out')

  const block = Math.max(5, Math.ceil(samples / ROUNDS))
  for (let done = 0; done < samples; done += block) {
    for (const contender of contenders) {
      await contender.begin()
      for (let i = done; i < Math.min(done + block, samples); i++) {
        report.progress(`gap: swap ${i + 1} of ${samples}, ${contender.series[0]?.variant}`)
        await contender.swap()
      }
      await contender.rest()
    }
  }
  for (const robot of robots) {
    if (robot.trace.refused > 0) report.say(`${robot.trace.refused} writes of programs without a lease were refused`)
    await robot.stop()
  }

  const all = contenders.flatMap(({ series }) => series)
  const rows = new Map(all.map((series) => [series.variant, series.row()]))
  for (const row of rows.values()) report.row(row)
  for (const [label] of SIZES) {
    const [theirs, ours] = [rows.get(`kill-respawn-${label}`), rows.get(`inherited-${label}`)]
    if (theirs !== undefined && ours !== undefined)
      report.row(ratio('gap', `ratio-${label}`, theirs, ours, { least: RATIO }))
  }
  return all
}
