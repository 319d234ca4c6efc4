import { appendFileSync, mkdirSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { eventually } from '../../../e2e/eventually.ts'
import { Laptop } from './medulla.ts'

interface WatchEvent {
  event: string
  outcome?: string
  code?: string
  files?: string[]
  [key: string]: unknown
}

let laptop: Laptop
let folder: string
let count = 0

beforeAll(async () => {
  laptop = new Laptop()
  await laptop.sim({
    model: 'sim',
    // each test has its own slot and led
    handles: Object.fromEntries([1, 2, 3, 4].map((n) => [`led${n}`, { kind: 'output', line: `GPIO${n}` }])),
    timing: { trialMs: 60 },
  })
})
afterAll(() => laptop.close())
beforeEach(() => {
  folder = join(laptop.dir, `program-${++count}`)
  mkdirSync(folder)
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ name: 'lamp', version: '1.0.0' }))
})

const program = (says: string, healthy = true): string => `import { robot } from 'medulla'
import { text } from './text.ts'
robot({ led${count}: 'output' }, ({ led${count}: led, every, health, log }) => {
  log('${says} ' + text)
  health(() => ${healthy})
  every(10, () => led.write(!led.value))
})
`

function write(says: string, healthy = true): void {
  writeFileSync(join(folder, 'program.ts'), program(says, healthy))
}

/** Starts `medulla watch --json` on the folder, and waits for the first commit. */
class Watch {
  readonly #process: ReturnType<Laptop['start']>
  readonly events: WatchEvent[] = []
  readonly slot: string

  constructor(...options: string[]) {
    this.slot = `slot-${count}`
    this.#process = laptop.start(['watch', folder, '--slot', this.slot, '--json', ...options])
    const lines = createInterface({ input: this.#process.stdout as NodeJS.ReadableStream })
    lines.on('line', (line) => this.events.push(JSON.parse(line) as WatchEvent))
  }

  static async begin(...options: string[]): Promise<Watch> {
    writeFileSync(join(folder, 'text.ts'), "export const text: string = 'one'\n")
    write('first')
    const watch = new Watch(...options)
    expect(await watch.save(0)).toMatchObject({ outcome: 'committed', files: [] })
    return watch
  }

  get builds(): number {
    return this.events.filter(({ event }) => event === 'built').length
  }

  get saves(): WatchEvent[] {
    return this.events.filter(({ event }) => event === 'save')
  }

  /** The result of the n-th save. */
  save(n: number): Promise<WatchEvent> {
    return eventually(() => this.saves[n])
  }

  logged(text: string): Promise<WatchEvent> {
    return eventually(() => this.events.find(({ event, text: said }) => event === 'log' && said === text))
  }

  async interrupt(): Promise<{ status: number | null; stderr: string }> {
    this.#process.kill('SIGINT')
    return this.#process.ended
  }

  async state(): Promise<unknown> {
    const { events } = await laptop.json('status')
    const [{ slots }] = events as unknown as [{ slots: { slot: string }[] }]
    return slots.find(({ slot }) => slot === this.slot)
  }
}

test('a save is pushed and reported in one line with its times, and the log goes on', { tags: ['slow'] }, async () => {
  const watch = await Watch.begin()
  write('second')
  expect(await watch.save(1)).toMatchObject({ outcome: 'committed', files: [`program-${count}/program.ts`] })
  const { buildMs, pushMs, gapMs } = await watch.save(1)
  expect([buildMs, pushMs, gapMs].every((ms) => typeof ms === 'number' && ms > 0)).toBe(true)
  await watch.logged('second one')

  // saves of an imported file, written in place, or moved into place
  writeFileSync(join(folder, '.text.ts.swp'), "export const text = 'two'\n")
  renameSync(join(folder, '.text.ts.swp'), join(folder, 'text.ts'))
  expect(await watch.save(2)).toMatchObject({ outcome: 'committed', files: [`program-${count}/text.ts`] })
  await watch.logged('second two')

  // an editor that renames the old file and writes a new one
  renameSync(join(folder, 'text.ts'), join(folder, 'text.ts~'))
  writeFileSync(join(folder, 'text.ts'), "export const text = 'three'\n")
  expect(await watch.save(3)).toMatchObject({ outcome: 'committed' })
  await watch.logged('second three')

  const { status, stderr } = await watch.interrupt()
  expect(status).toBe(0)
  expect(stderr).toContain(`not watching any more: sim/${watch.slot} keeps running`)
  expect(await watch.state()).toMatchObject({ state: 'running', program: 'lamp' })
  expect(watch.saves).toHaveLength(4)
})

test('a save that does not build, or is undone, is reported with place or reason, and the previous program runs on', {
  tags: ['slow'],
}, async () => {
  const watch = await Watch.begin('--stop')
  const running = (await watch.state()) as { digest: string }
  appendFileSync(join(folder, 'program.ts'), 'const broken = ')
  expect(await watch.save(1)).toMatchObject({ outcome: 'refused', code: 'build-failed' })
  expect((await watch.save(1)).message).toMatch(/Unexpected end of file\n\n {4}program\.ts:\d+:\d+:\n/)
  // an import of a missing module
  writeFileSync(join(folder, 'program.ts'), `import './late.ts'\n${program('late')}`)
  expect(await watch.save(2)).toMatchObject({ code: 'build-failed' })
  expect(await watch.state()).toMatchObject({ digest: running.digest, state: 'running' })
  writeFileSync(join(folder, 'late.ts'), 'export {}\n')
  expect(await watch.save(3)).toMatchObject({ outcome: 'committed' })

  write('sick', false)
  expect(await watch.save(4)).toMatchObject({ outcome: 'rolled-back', code: 'unhealthy' })
  await watch.logged('sick one')
  // a handle that is not on this board
  writeFileSync(join(folder, 'program.ts'), program('ghost').replace('robot({', "robot({ ghost: 'input',"))
  expect(await watch.save(5)).toMatchObject({ outcome: 'refused', code: 'missing-handle' })
  expect(await watch.state()).toMatchObject({ state: 'running', program: 'lamp' })

  const { status } = await watch.interrupt()
  expect(status).toBe(0)
  expect(watch.events.at(-1)).toMatchObject({ event: 'result', outcome: 'stopped' })
  expect(await watch.state()).toMatchObject({ state: 'idle' })
})

test('saves in quick succession are one push; saves during a push are pushed after it', {
  tags: ['slow'],
}, async () => {
  const watch = await Watch.begin()
  write('second')
  // wait until the push is under way
  await eventually(() => watch.builds === 2 && watch.events.at(-1)?.event === 'phase')
  for (let n = 0; n < 5; n++) write(`quick ${n}`)
  await watch.logged('quick 4 one')
  await eventually(() => watch.saves.at(-1)?.outcome === 'committed' && watch.saves.length >= 3)
  expect(watch.saves.length).toBeLessThanOrEqual(4)
  expect((await watch.interrupt()).status).toBe(0)
})

test('watch refuses a bundle, and after a failing start waits for the next save', {
  tags: ['slow'],
}, async () => {
  writeFileSync(join(folder, 'program.ts'), 'not a program')
  const watch = new Watch()
  expect(await watch.save(0)).toMatchObject({ code: 'build-failed', files: [] })
  writeFileSync(join(folder, 'text.ts'), "export const text = 'one'\n")
  write('mended')
  await watch.logged('mended one')
  expect((await watch.interrupt()).status).toBe(0)
  writeFileSync(join(folder, 'x.medulla'), '')
  expect(await laptop.run('watch', join(folder, 'x.medulla'))).toMatchObject({
    status: 2,
    stderr: expect.stringContaining('is a bundle: there is nothing to build'),
  })
})
