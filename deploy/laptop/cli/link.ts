/**
 * A session that is opened again after a loss. The link looks the robot up by its name each time, since `sim` or `trust` may
 * have changed its address meanwhile; the handshake proves that it is the same robot.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { Refusal } from '../../shared/errors.ts'
import type { RobotClient } from '../client.ts'
import { pauseBefore } from '../following.ts'
import type { App, Globals } from './app.ts'
import { connectTo, findRobot, type Target } from './robot.ts'
import { describeFailure } from './term.ts'

const PATIENCE_MS = 3000
/** Attempts after which the robot is looked for at other addresses, too. */
const SEARCH_FROM = 20
const SEARCH_EVERY = 10

export class Link {
  readonly #app: App
  readonly #globals: Globals
  #robot: Target
  #client: RobotClient
  #reconnecting: Promise<void> | null = null

  private constructor(app: App, globals: Globals, robot: Target, client: RobotClient) {
    this.#app = app
    this.#globals = globals
    this.#robot = robot
    this.#client = client
  }

  /** Throws when the robot does not answer: a link only waits for a robot that has answered before. */
  static async open(app: App, globals: Globals): Promise<Link> {
    const robot = await findRobot(app.dir, globals.device)
    return Link.of(app, globals, robot, await connectTo(app, robot, globals.key))
  }

  /** With a session that is open already. */
  static of(app: App, globals: Globals, robot: Target, client: RobotClient): Link {
    return new Link(app, globals, robot, client)
  }

  get robot(): Target {
    return this.#robot
  }

  get client(): RobotClient {
    return this.#client
  }

  /**
   * Call it when the robot has not answered, with the error. Resolves when the robot answers again, or `signal` is aborted.
   * Prints a note at the loss and at the return.
   */
  back(reason: unknown, signal: AbortSignal): Promise<void> {
    this.#reconnecting ??= this.#reconnect(reason, signal).finally(() => {
      this.#reconnecting = null
    })
    return this.#reconnecting
  }

  close(): void {
    this.#client.close()
  }

  async #reconnect(reason: unknown, signal: AbortSignal): Promise<void> {
    const { term } = this.#app
    const { name } = this.#robot
    const { message } = describeFailure(reason)
    this.#client.close()
    term.event({ event: 'lost', robot: name, message })
    term.note(`${name} does not answer (${message}); waiting for it`)
    for (let attempt = 0; !signal.aborted; attempt++) {
      try {
        const robot = await findRobot(this.#app.dir, name)
        // A search takes more than a second, in which a robot that is back at its address is not noticed.
        const search = attempt >= SEARCH_FROM && attempt % SEARCH_EVERY === 0
        this.#client = await connectTo(this.#app, robot, this.#globals.key, PATIENCE_MS, search)
        const moved = robot.host !== this.#robot.host || robot.port !== this.#robot.port
        this.#robot = robot
        term.event({ event: 'back', robot: name, host: robot.host, port: robot.port })
        term.note(`${name} answers again${moved ? `, at ${robot.host}:${robot.port}` : ''}`)
        return
      } catch (error) {
        if (!(error instanceof Refusal)) throw error
        await sleep(pauseBefore(attempt), undefined, { signal }).catch(() => {})
      }
    }
  }
}

export { isLost } from '../following.ts'
