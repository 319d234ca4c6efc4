import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { eventually, SCALE } from '../e2e/eventually.ts'
import { TestRobot } from '../e2e/robot.ts'
import { boardText, LINE, PATIENT } from './board.ts'
import { untilSafe } from './deaths.ts'
import { inRig, pull } from './guest.ts'
import { summary } from './summary.ts'
import { type TraceEvent, trace } from './trace.ts'

/** More with `npm run test:kernel -- --long`. */
const REPLACEMENTS = process.env.MEDULLA_LONG === '1' ? 100 : Number(process.env.MEDULLA_REPLACEMENTS ?? 10)
/** How often the runtime is killed at each step of its replacement. */
const KILLS = process.env.MEDULLA_LONG === '1' ? 10 : Number(process.env.MEDULLA_REPLACEMENT_KILLS ?? 1)
/** The step that lasts; the others may be over before they are seen. */
const LAST = 'its endpoint starts'
const HELD = new Set<number>([LINE.hold1, LINE.hold2, LINE.hold3, LINE.hold4])

describe.runIf(inRig)('the runtime is replaced over lines of a real kernel', () => {
  let robot: TestRobot
  beforeAll(async () => {
    robot = await TestRobot.start({}, {}, { board: boardText(PATIENT) })
    await robot.commit('thousand-hertz')
  })
  afterAll(async () => robot?.close())

  const replaced = () => robot.receipts().filter(({ reason = '' }) => reason.startsWith('the runtime was replaced'))

  /** How many ticks the program has had, and in how many ms; each call makes an edge. */
  let level: 0 | 1 = 0
  async function counted(): Promise<{ ticks: number; ms: number }> {
    const told = async () => (await robot.logs('main', 2000)).filter(({ text }) => text.startsWith('ticks '))
    const before = (await told()).length
    // gpio-sim may lose a pull on a busy machine, and the line may have this level already
    await eventually(async () => {
      level = level === 0 ? 1 : 0
      pull(LINE.button, level)
      await sleep(200 * SCALE)
      return (await told()).length > before
    })
    const [, ticks = '', , ms = ''] = ((await told()).at(-1)?.text ?? '').split(' ')
    return { ticks: Number(ticks), ms: Number(ms) }
  }

  /** In percent: a machine that emulates another one is too slow for 1 kHz anyway. */
  function lost(from: { ticks: number; ms: number }, to: { ticks: number; ms: number }): string {
    return `${(100 * (1 - (to.ticks - from.ticks) / (to.ms - from.ms))).toFixed(1)} %`
  }

  test(`HANDOVER 18.1, 18.3: ${REPLACEMENTS} replacements under a 1 kHz program: no edge on a held line, nothing opened or requested`, {
    timeout: REPLACEMENTS * 60_000 + 60_000,
  }, async () => {
    const before = await robot.running()
    const { pid } = robot
    const rest = [await counted(), await sleep(2000 * SCALE).then(counted)] as const
    const start = rest[1]
    const kernel = trace()
    const seen: TraceEvent[] = []
    for (let i = 0; i < REPLACEMENTS; i++) {
      const count = replaced().length
      process.kill(pid, 'SIGUSR2')
      await eventually(() => {
        // the reason, instead of a wait
        if (robot.stderr.includes('the body ended')) throw new Error(robot.stderr.slice(-4000))
        return replaced().length > count
      })
      await robot.reconnect()
      seen.push(...kernel.events())
      kernel.clear()
      if (i % 5 === 4) process.stderr.write(`replacement ${i + 1} of ${REPLACEMENTS}\n`)
    }
    seen.push(...kernel.stop())
    const end = await counted()
    expect(robot.pid).toBe(pid)
    expect(await robot.running()).toMatchObject({ pid: before.pid, fence: before.fence, restarts: before.restarts })
    // the old guard releases its copies, which releases no line
    expect(seen.filter(({ what }) => what !== 'level' && what !== 'pwm')).toEqual([])
    const held = seen.filter((event) => event.what === 'level' && event.action === 'set' && HELD.has(event.line))
    expect(held.length).toBeGreaterThan(REPLACEMENTS)
    expect(held.filter((event) => event.what === 'level' && event.level === 0)).toEqual([])
    console.log(`without a body ${summary(replaced().map(({ gapMs }) => gapMs as number))}`)
    console.log(`1 kHz program: ticks lost at rest ${lost(...rest)}, during the replacements ${lost(start, end)}`)
  })

  test('HANDOVER 18.4: after a replacement the new guard and the new body still stop the robot', async () => {
    pull(LINE.button, 0)
    const { pid } = await robot.running()
    process.kill(pid, 'SIGKILL')
    untilSafe(1000 * SCALE)
    await robot.running(pid)
    await robot.end('SIGKILL')
    untilSafe(1000 * SCALE)
    // the lines are released when a body ends in order
    await robot.begin()
  })

  /** Guards in the whole machine. */
  const guards = () =>
    readdirSync('/proc').filter((pid) => {
      const file = `/proc/${pid}/cmdline`
      return /^\d+$/.test(pid) && existsSync(file) && readFileSync(file, 'utf8').includes('guard/main.js')
    }).length

  test(`HANDLES 14.7: HANDOVER 18.4, 18.7: after SIGKILL at each step of a replacement, ${KILLS} times: safe levels, and the next runtime runs`, {
    timeout: KILLS * 240_000 * SCALE + 60_000,
  }, async () => {
    const running = (part: string) => robot.children().filter(({ command }) => command.includes(part))
    const steps: [string, (endpoint: number) => boolean][] = [
      ['the new runtime is asked', () => running('main.js able').length > 0],
      ['the new runtime has begun', () => running('endpoint/main.js').length === 0],
      ['the new runtime has a guard of its own', () => running('guard/main.js').length > 1],
      [LAST, (before) => running('endpoint/main.js').some(({ pid }) => pid !== before)],
    ]
    const times: number[] = []
    let missed = 0
    for (const [step, reached] of steps) {
      for (let killed = 0; killed < KILLS; ) {
        const before = await robot.running()
        const [count, endpoint] = [replaced().length, robot.endpoint()]
        const isOver = () => step !== LAST && replaced().length > count
        process.kill(robot.pid, 'SIGUSR2')
        while (!reached(endpoint) && !isOver()) await sleep(1)
        // this process may have been too late for a short step
        if (isOver()) missed++
        else killed++
        await robot.end('SIGKILL')
        times.push(untilSafe(1000 * SCALE))
        await robot.begin()
        await robot.running(before.pid)
        // one that nobody can reach would keep the lines from whoever comes after this robot
        await eventually(() => guards() === 1)
        process.stderr.write(`killed as ${step}: ${killed} of ${KILLS}\n`)
      }
    }
    console.log(`safe after SIGKILL in a replacement: ${summary(times)}; too late for a step: ${missed} times`)
  })
})
