/** Our own swaps: a real runtime, real pushes, each of a freshly signed and sealed bundle, over one session. */
import { join } from 'node:path'
import { type Built, buildProgram, makeBundle } from '../../deploy/laptop/build.ts'
import type { RobotClient } from '../../deploy/laptop/client.ts'
import type { RobotChannel } from '../../deploy/laptop/messagechannel.ts'
import type { PushEvent } from '../../deploy/shared/api.ts'
import type { Signer } from '../../deploy/shared/keys.ts'
import { writeProgram, writer } from './programs.ts'
import { type BenchRobot, DIST } from './rig.ts'
import { type Goal, Series } from './stats.ts'

export type Result = Extract<PushEvent, { event: 'result' }>

/** Never twice the same: two releases of one millisecond are two releases. */
let counter = 0
export function nextCounter(): number {
  counter = Math.max(Date.now(), counter + 1)
  return counter
}

export const LIBRARY = { sdk: join(DIST, 'runtime/sdk/index.js'), drivers: join(DIST, 'drivers/index.js') }

/** Far beyond every deadline of the runtime: a push that lasts longer has hung, and is a failure. */
const HUNG_MS = 30_000

export async function pushed(client: RobotClient, slot: string, bundle: Uint8Array): Promise<Result> {
  let timer: NodeJS.Timeout | undefined
  const hung = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`the push did not end within ${HUNG_MS} ms`)), HUNG_MS)
  })
  try {
    return await Promise.race([untilResult(client, slot, bundle), hung])
  } finally {
    clearTimeout(timer)
  }
}

async function untilResult(client: RobotClient, slot: string, bundle: Uint8Array): Promise<Result> {
  let result: Result | undefined
  // to the end: leaving early would cost the session
  for await (const event of client.push(slot, bundle)) if (event.event === 'result') result = event
  if (result === undefined) throw new Error('the push ended without a result')
  return result
}

interface About {
  variant: string
  handle: string
  size: number
  goal: Goal | undefined
  /** How the old program is stopped, when it is to be told how long that and the start of the new one take. */
  stop?: string | undefined
  /** Messages of 1 KB go to the program and back all the time, so many under way. */
  messages?: number | undefined
}

export class OurSwaps {
  readonly series: readonly Series[]
  readonly #gap: Series
  readonly #receipt: Series
  readonly #fenced: Series
  readonly #spawn: Series
  readonly #period: Series
  readonly #robot: BenchRobot
  readonly #client: RobotClient
  readonly #signer: Signer
  readonly #built: Built
  readonly #about: About
  /** The fence under which the running program writes; 0: none runs. */
  #fence = 0
  #channel: RobotChannel | null = null

  private constructor(robot: BenchRobot, about: About, client: RobotClient, signer: Signer, built: Built) {
    this.#robot = robot
    this.#about = about
    this.#client = client
    this.#signer = signer
    this.#built = built
    const { variant, goal, stop } = about
    const series = (suffix: string, more: { note?: string; goal?: Goal | undefined } = {}) =>
      new Series('gap', `${variant}${suffix}`, 'ms', more)
    this.#gap = series('', { goal })
    this.#receipt = series('-receipt')
    this.#fenced = series('-fence', { note: `from the revocation to the confirmed stop of the old program: ${stop}` })
    this.#spawn = series('-spawn', { note: 'phase spawn: until the program is loaded' })
    this.#period = series('-period', { note: 'between two writes of one program, 1 ms wanted' })
    const timed = stop === undefined ? [] : [this.#fenced, this.#spawn]
    this.series = [this.#gap, this.#receipt, ...timed, this.#period]
  }

  static async make(robot: BenchRobot, about: About): Promise<OurSwaps> {
    const path = await writeProgram(
      robot.dir,
      about.variant.toLowerCase(),
      writer(about.handle, about.size, about.messages !== undefined),
    )
    const built = await buildProgram(path, LIBRARY)
    return new OurSwaps(robot, about, await robot.connect(), await robot.signer(), built)
  }

  async begin(): Promise<void> {
    this.#fence = (await this.#push()).receipt?.fence ?? 0
    await this.#robot.trace.transition(this.#about.handle, this.#fence)
    await this.#talk()
    this.#robot.trace.takePeriods(this.#about.handle)
  }

  async swap(): Promise<void> {
    const before = this.#fence
    try {
      const result = await this.#push()
      if (result.outcome !== 'committed') throw new Error(`${result.outcome}: ${result.message}`)
      this.#fence = result.receipt?.fence ?? 0
      const { fromFence, lastNs, firstNs } = await this.#robot.trace.transition(this.#about.handle, this.#fence)
      if (fromFence !== before) throw new Error(`the write before was under fence ${fromFence}, expected ${before}`)
      this.#gap.add((firstNs - lastNs) / 1e6)
      this.#receipt.add(result.receipt?.gapMs ?? Number.NaN)
      this.#fenced.add(result.receipt?.fenceMs ?? Number.NaN)
      this.#spawn.add(result.receipt?.phases.find(({ phase }) => phase === 'spawn')?.ms ?? Number.NaN)
    } catch (error) {
      this.#gap.fail(error instanceof Error ? error.message : String(error))
      await this.#recover()
    }
  }

  async rest(): Promise<void> {
    for (const ms of this.#robot.trace.takePeriods(this.#about.handle)) this.#period.add(ms)
    await this.#channel?.close({ now: true })
    this.#channel = null
    for await (const _ of this.#client.stop(this.#slot)) {
      // its last event is its end
    }
  }

  async #talk(): Promise<void> {
    const { messages = 0 } = this.#about
    if (messages === 0) return
    const channel = await this.#client.channel('echo', this.#slot)
    this.#channel = channel
    const send = (): void => void channel.send(new Uint8Array(1024)).catch(() => {})
    channel.on('message', send)
    for (let i = 0; i < messages; i++) send()
  }

  /** What runs after a failed swap is the old program under a new fence, or a restarted one. */
  async #recover(): Promise<void> {
    await this.rest().catch(() => {})
    await this.begin()
  }

  get #slot(): string {
    return this.#about.variant.toLowerCase()
  }

  async #push(): Promise<Result> {
    const { id, age = '' } = this.#robot.target.card
    const { files, manifest } = this.#built
    const options = { signer: this.#signer, robots: [{ id, age }], counter: nextCounter() }
    return pushed(this.#client, this.#slot, (await makeBundle(files, manifest, options)).bytes)
  }
}
