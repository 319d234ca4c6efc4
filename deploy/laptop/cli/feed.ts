/**
 * A robot's status, pins and receipts, kept up to date for full-screen views. While the robot does not answer, the feed keeps
 * the last report, tries to connect again, and `lost` says since when.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { PinChange, Receipt, StatusReport } from '../../shared/api.ts'
import type { BoardReport } from '../../shared/board.ts'
import { Refusal } from '../../shared/errors.ts'
import type { RobotClient } from '../client.ts'
import { pauseBefore } from '../following.ts'
import type { App, Globals } from './app.ts'
import { PinWatch } from './pinwatch.ts'
import { connectTo, findRobot, type Target } from './robot.ts'
import { describeFailure } from './term.ts'

const STATUS_MS = 500
const PATIENCE_MS = 3000
/** How long changes of pins are kept: longer than the time that any strip shows. */
const KEEP_MS = 30_000
const RECEIPTS = 32

export interface Lost {
  /** Date.now() */
  since: number
  message: string
}

export interface FeedEvents {
  status?(report: StatusReport): void
  pin?(change: PinChange): void
  lost?(lost: Lost): void
  back?(): void
}

export class Feed {
  readonly robot: Target
  readonly #connect: () => Promise<RobotClient>
  readonly #events: FeedEvents
  #client: RobotClient
  report: StatusReport
  board: BoardReport
  /** Newest last. */
  receipts: readonly Receipt[] = []
  pins: PinWatch
  lost: Lost | null = null

  private constructor(
    robot: Target,
    connect: () => Promise<RobotClient>,
    events: FeedEvents,
    client: RobotClient,
    report: StatusReport,
    board: BoardReport,
  ) {
    this.robot = robot
    this.#connect = connect
    this.#events = events
    this.#client = client
    this.report = report
    this.board = board
    this.pins = this.#watchPins()
  }

  /** Throws when the robot does not answer: the feed only waits for a robot that has answered before. */
  static async open(app: App, globals: Globals, events: FeedEvents = {}): Promise<Feed> {
    const robot = await findRobot(app.dir, globals.device)
    const connect = (): Promise<RobotClient> => connectTo(app, robot, globals.key, PATIENCE_MS)
    const client = await connectTo(app, robot, globals.key)
    try {
      return new Feed(robot, connect, events, client, await client.status(), await client.board())
    } catch (error) {
      client.close()
      throw error
    }
  }

  /** The present session; replaced after a loss. */
  get client(): RobotClient {
    return this.#client
  }

  /** Keeps the feed up to date until `signal` is aborted. */
  async run(signal: AbortSignal): Promise<void> {
    const close = (): void => this.#client.close()
    signal.addEventListener('abort', close)
    let attempt = 0
    try {
      while (!signal.aborted) {
        try {
          if (this.lost === null) await this.#follow(signal)
          else await this.#reconnect()
          attempt = 0
        } catch (error) {
          if (signal.aborted) return
          this.#lose(error)
          await sleep(pauseBefore(attempt++), undefined, { signal }).catch(() => {})
        }
      }
    } finally {
      signal.removeEventListener('abort', close)
      close()
    }
  }

  /** Asks for the status twice a second. Throws when the session ends. */
  async #follow(signal: AbortSignal): Promise<void> {
    const ended = this.pins.ended.then(() => {
      throw new Refusal('unreachable', `${this.robot.name} closed the session`)
    })
    ended.catch(() => {})
    while (!signal.aborted) {
      await Promise.race([this.#update(), ended])
      await Promise.race([sleep(STATUS_MS, undefined, { signal }).catch(() => {}), ended])
    }
  }

  async #update(): Promise<void> {
    const before = this.receipts.at(-1)?.seq ?? 0
    this.report = await this.#client.status()
    if (this.report.head.seq !== before && this.report.head.seq > 0) {
      const receipts: Receipt[] = []
      for await (const { receipt } of this.#client.receipts(RECEIPTS)) receipts.push(JSON.parse(receipt) as Receipt)
      this.receipts = receipts
    }
    this.#events.status?.(this.report)
  }

  async #reconnect(): Promise<void> {
    this.#client = await this.#connect()
    this.board = await this.#client.board()
    this.pins = this.#watchPins()
    this.lost = null
    this.#events.back?.()
  }

  #lose(error: unknown): void {
    this.#client.close()
    const { message } = describeFailure(error)
    const known = this.lost !== null
    this.lost = { since: this.lost?.since ?? Date.now(), message }
    if (!known) this.#events.lost?.(this.lost)
  }

  /** A new watch for each session: a restarted robot has another clock. */
  #watchPins(): PinWatch {
    const changes = this.#client.pins({ follow: true })
    const { pin } = this.#events
    return new PinWatch(pin === undefined ? changes : observed(changes, pin), KEEP_MS)
  }
}

async function* observed(
  changes: AsyncIterable<PinChange>,
  observer: (change: PinChange) => void,
): AsyncGenerator<PinChange> {
  for await (const change of changes) {
    observer(change)
    yield change
  }
}
