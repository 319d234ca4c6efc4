/** Messages with the program `echoes`, sent without pause while something happens to it. */
import { expect } from 'vitest'
import type { RobotClient } from '../../deploy/laptop/client.ts'
import type { RobotChannel } from '../../deploy/laptop/messagechannel.ts'
import { eventually } from './eventually.ts'

/** What `echoes` sends on the channel `tune` for each message. */
export interface Answer {
  heard: unknown
  /** Number of the message, which the program counts in its state. */
  n: number
  bytes: boolean
}

/** Collects what comes on a channel. */
export function collect(channel: RobotChannel): unknown[] {
  const all: unknown[] = []
  channel.on('message', (message) => all.push(message))
  return all
}

/** Sends numbers on `tune` without pause, and collects what comes on `tune` and `count`. */
export class Traffic {
  readonly #answers: unknown[]
  readonly #counts: unknown[]
  readonly #tune: RobotChannel
  readonly #count: RobotChannel
  readonly #sending: Promise<void>
  #sent = 0
  #goes = true

  private constructor(tune: RobotChannel, count: RobotChannel) {
    this.#tune = tune
    this.#count = count
    this.#answers = collect(tune)
    this.#counts = collect(count)
    this.#sending = (async () => {
      while (this.#goes) {
        await tune.send(++this.#sent)
        if (this.#sent % 20 === 0) await new Promise((resolve) => setTimeout(resolve, 5))
      }
    })()
  }

  static async start(client: RobotClient): Promise<Traffic> {
    return new Traffic(await client.channel('tune'), await client.channel('count'))
  }

  /** Waits for messages in both directions that are newer than all so far. */
  async more(): Promise<void> {
    const [answers, counts, sent] = [this.#answers.length, this.#counts.length, this.#sent]
    await eventually(
      () => this.#answers.length > answers && this.#answers.length >= sent && this.#counts.length > counts,
    )
  }

  async end(): Promise<void> {
    this.#goes = false
    await this.#sending
    await eventually(() => this.#answers.length >= this.#sent)
    await Promise.all([this.#tune.close(), this.#count.close()])
  }

  /** Each message was heard once and in order, and answered. */
  expectHeard(): void {
    const answers = this.#answers as Answer[]
    expect(answers.findIndex(({ heard }, at) => heard !== at + 1)).toBe(-1)
    expect(answers).toHaveLength(this.#sent)
  }

  /** And the program has always gone on with its last state, so that it counts each of its own messages once. */
  expectWhole(): void {
    this.expectHeard()
    const numbers = (this.#answers as Answer[]).map(({ n }) => n)
    for (const all of [numbers, this.#counts as number[]]) {
      const [first = 0] = all
      expect(all.findIndex((number, at) => number !== first + at)).toBe(-1)
    }
  }
}
