/** Both ends of a message channel over swaps that are undone, at random. */
import { EventEmitter } from 'node:events'
import { expect, test } from 'vitest'
import { LaptopEnd } from '../../../deploy/laptop/laptopend.ts'
import { decodeMessage, encodeMessage, FrameReader, parseHello } from '../../../deploy/shared/messages/frames.ts'
import { ChannelEnd } from '../../../runtime/messages/channelend.ts'
import type { Connection } from '../../../runtime/messages/transport.ts'
import { seeded } from '../../fixtures/random.ts'

/** A connection whose bytes come one write at a time, when the test says so. */
class Wire extends EventEmitter implements Connection {
  destroyed = false
  readonly writableCorked = 1
  readonly toLaptop: Uint8Array[] = []
  readonly toProgram: Uint8Array[] = []

  cork(): void {}
  uncork(): void {}
  write(bytes: Uint8Array): void {
    this.toLaptop.push(bytes)
  }
  end(): void {
    this.destroy()
  }
  destroy(): void {
    this.destroyed = true
  }
}

/** A slot with its programs and a laptop. */
class Slot {
  readonly heard: unknown[] = []
  /** What each program in the line of the one that runs has taken. */
  #given: unknown[] = []
  readonly #soon: (() => void)[] = []
  readonly #laptop = new LaptopEnd('tune', {
    open: () => {},
    resumed: () => {},
    restart: () => expect.unreachable('restart'),
    waiting: () => expect.unreachable('waiting'),
    taken: () => expect.unreachable('taken'),
  })
  #program = this.#start()
  /** The programs that wait for the verdict on their successors, oldest first. */
  readonly #parked: { program: ChannelEnd; given: unknown[] }[] = []
  #wire: Wire | null = null
  #reader = new FrameReader()

  get given(): readonly unknown[] {
    return this.#given
  }

  #start(before?: ChannelEnd): ChannelEnd {
    const end: ChannelEnd = new ChannelEnd(before?.save(32 * 1024)?.channel, {
      act: (fn) => fn(),
      soon: (fn) => void this.#soon.push(fn),
      mayAct: () => this.#program === end,
      mayTake: () => true,
      isClosing: () => false,
      changed: () => {},
    })
    return end.on('message', (message) => this.#given.push(message))
  }

  connect(): void {
    this.disconnect()
    const wire = new Wire()
    this.#wire = wire
    this.#reader = new FrameReader()
    this.#laptop.connect((frame) => wire.toProgram.push(frame))
    const [hello] = new FrameReader().push(wire.toProgram.shift() as Buffer)
    if (hello !== undefined) this.#program.accept(wire, parseHello(hello))
  }

  disconnect(): void {
    this.#wire = null
    this.#laptop.disconnect()
    this.#program.disconnect()
  }

  /** Whether a program takes it. */
  programSends(message: unknown): boolean {
    return this.#program.send(message)
  }

  laptopSends(message: unknown): boolean {
    return this.#laptop.send(encodeMessage(message))
  }

  /** One write, or one call of a later turn. */
  step(towards: 'laptop' | 'program'): boolean {
    this.#soon.shift()?.()
    const wire = this.#wire
    const bytes = towards === 'laptop' ? wire?.toLaptop.shift() : wire?.toProgram.shift()
    if (bytes === undefined) return false
    if (towards === 'program') wire?.emit('data', Buffer.from(bytes))
    else for (const frame of this.#reader.push(Buffer.from(bytes))) this.#laptop.hear(frame)
    for (let next = this.#laptop.next(); next; next = this.#laptop.next()) this.heard.push(decodeMessage(next))
    this.#laptop.confirm()
    return true
  }

  swap(): void {
    const before = this.#program
    this.#parked.push({ program: before, given: this.#given })
    this.disconnect()
    this.#given = [...this.#given]
    this.#program = this.#start(before)
  }

  undo(): void {
    const before = this.#parked.pop()
    if (before === undefined) return
    this.disconnect()
    this.#program = before.program
    this.#given = before.given
  }

  commit(): void {
    this.#parked.length = 0
  }

  get isOnTrial(): boolean {
    return this.#parked.length > 0
  }

  finish(): void {
    this.connect()
    for (let idle = 0; idle < 50; idle++) if (this.step('laptop') || this.step('program')) idle = 0
  }
}

test('CHANNEL 12.4: 400 series of swaps, undone or not: no message comes twice, and none of a program that goes on is missing', () => {
  for (let seed = 0; seed < 400; seed++) {
    const random = seeded(seed)
    const below = (n: number) => Math.floor(random() * n)
    const slot = new Slot()
    slot.connect()
    slot.finish()
    /** By programs that run, or wait for a verdict; by those that were undone. */
    let [sent, undone]: [number[], number[]] = [[], []]
    const marks: number[] = []
    let number = 0
    for (let step = 0; step < 150; step++) {
      const what = below(12)
      if (what < 3 && slot.programSends(number)) sent.push(number++)
      else if (what < 7) slot.step(what % 2 === 0 ? 'laptop' : 'program')
      else if (what === 7) slot.laptopSends(`laptop ${step}`)
      else if (what === 8) slot.connect()
      else if (what === 9) slot.disconnect()
      else if (what === 10 && !slot.isOnTrial) {
        marks.push(sent.length)
        slot.swap()
      } else if (what === 11 && slot.isOnTrial) {
        const mark = marks.pop() as number
        if (below(4) === 0) slot.commit()
        else {
          undone = [...undone, ...sent.slice(mark)]
          sent = sent.slice(0, mark)
          slot.undo()
        }
      }
    }
    slot.finish()
    const { heard, given } = slot
    expect(new Set(heard).size, `seed ${seed}: ${heard}`).toBe(heard.length)
    expect(
      heard.filter((each) => !undone.includes(each as number)),
      `seed ${seed}`,
    ).toEqual(sent)
    expect(new Set(given).size, `seed ${seed}: ${given}`).toBe(given.length)
  }
})
