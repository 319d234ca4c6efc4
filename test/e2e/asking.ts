import type { SpareEvent } from '../../deploy/shared/api.ts'
import { eventually } from './eventually.ts'
import type { TestRobot } from './robot.ts'

/** Finds processes of programs and of spare children. */
export const loadersOf = (robot: TestRobot): number[] =>
  robot.children().flatMap(({ pid, command }) => (command.includes('sdk/loader.js') ? [pid] : []))

/** A session that asks for a spare. */
export class Asking {
  readonly #robot: TestRobot
  readonly events: SpareEvent[] = []
  readonly #abort = new AbortController()
  /** Programs that ran: one that was just replaced may not have ended yet. */
  readonly #ran = new Set<number>()
  readonly #ended: Promise<void>

  constructor(robot: TestRobot) {
    this.#robot = robot
    this.#ended = (async () => {
      for await (const event of robot.client.spare('main', this.#abort.signal)) this.events.push(event)
    })()
    this.#ended.catch(() => {}) // the robot may be stopped meanwhile
  }

  /** The spare child's pid, once it waits. The last event may still name a child that has become a program since. */
  async ready(): Promise<number> {
    return eventually(async () => {
      if (this.events.at(-1)?.ready !== true) return false
      const { pid } = await this.#robot.running()
      this.#ran.add(pid)
      const [spare, ...more] = loadersOf(this.#robot).filter((loader) => !this.#ran.has(loader))
      if (more.length > 0) throw new Error(`expected one spare beside ${pid}, got ${spare} ${more}`)
      return spare
    })
  }

  /** Why there is no spare child any more. */
  gone(): Promise<string> {
    return eventually(() => {
      const last = this.events.at(-1)
      return last?.ready === false && last.reason
    })
  }

  async end(): Promise<void> {
    this.#abort.abort()
    await this.#ended
  }
}
