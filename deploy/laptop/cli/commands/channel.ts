import { once } from 'node:events'
import { createInterface } from 'node:readline'
import type { Duplex } from 'node:stream'
import type { Command } from 'commander'
import { Refusal } from '../../../shared/errors.ts'
import { CHANNEL_NAME } from '../../../shared/messages/frames.ts'
import { RobotChannel } from '../../messagechannel.ts'
import { type App, example, type Globals, type Runner } from '../app.ts'
import { untilInterrupt } from '../interrupt.ts'
import { isLost, Link } from '../link.ts'
import { printable } from '../loglines.ts'
import { checkSlot } from '../pushing.ts'

interface Options {
  follow?: true
  slot?: string
}

/** Bytes of a message that are shown; `--json` has all of them. */
const SHOWN_BYTES = 64

export function define(command: Command, app: App, run: Runner): void {
  command
    .description(
      'Talks with the program that runs, over a message channel that the program has opened. Each line of the input is one message: ' +
        'JSON as its value, any other line as a text. Each message of the program is printed as a line. The command ends after the ' +
        'end of the input, when the program has taken every message, or at Ctrl-C.',
    )
    .argument('<name>', 'name of the channel, like tune')
    .option('-f, --follow', 'print messages until Ctrl-C, also after the end of the input')
    .option('--slot <slot>', 'which slot (default: main)')
    .addHelpText(
      'after',
      example(
        'medulla channel tune',
        `echo '{"kp": 1.5}' | medulla channel tune`,
        'medulla channel tune -f < /dev/null',
      ),
    )
    .action((name: string, options: Options, own: Command) =>
      run(() => channel(app, name, options, own.optsWithGlobals<Globals>())),
    )
}

async function channel(app: App, name: string, options: Options, globals: Globals): Promise<number> {
  const slot = checkSlot(options.slot)
  if (!CHANNEL_NAME.test(name)) {
    const got = JSON.stringify(name)
    throw new Refusal('usage', `expected the name of a channel, like tune, got ${got}`, 'medulla channel --help')
  }
  const link = await Link.open(app, globals)
  try {
    await untilInterrupt((signal) => new Talk(app, link, name, slot, signal).run(options.follow === true))
  } finally {
    link.close()
  }
  return 0
}

/** One run of the command. */
class Talk {
  readonly #app: App
  readonly #link: Link
  readonly #name: string
  readonly #slot: string
  readonly #signal: AbortSignal
  #wasOpen = false
  /** It was said that no program has the channel. */
  #isMissing = false
  /** Messages that a program may not have taken before it ended. */
  #unsure = 0
  /** Ends the command with an error. */
  #fail: (reason: unknown) => void = () => {}

  constructor(app: App, link: Link, name: string, slot: string, signal: AbortSignal) {
    this.#app = app
    this.#link = link
    this.#name = name
    this.#slot = slot
    this.#signal = signal
  }

  /**
   * Resolves at the end of the input, unless `follow`, or at Ctrl-C. Throws `interrupted` if messages were not taken by then, and
   * `crashed` if a program ended that may not have taken them.
   */
  async run(follow: boolean): Promise<void> {
    const failed = new Promise<never>((_, reject) => {
      this.#fail = reject
    })
    failed.catch(() => {}) // awaited below
    const interrupted = once(this.#signal, 'abort')
    const opening = RobotChannel.open(this.#name, (token, signal) => this.#stream(token, signal))
    const channel = await Promise.race([opening, interrupted.then(() => null)])
    if (channel === null) return void opening.then((late) => late.close({ now: true })).catch(() => {})
    try {
      const opened = once(channel, 'open')
      this.#listen(channel)
      const sent = this.#send(channel).then(async () => {
        if (follow) return failed
        await opened
        await channel.close()
      })
      await Promise.race([sent, failed, interrupted])
      const { unconfirmed } = channel
      const notTaken = `the program has not taken ${count(unconfirmed)}`
      if (unconfirmed > 0) throw new Refusal('interrupted', `interrupted: ${notTaken}`, 'medulla status')
      const unsure = `the program ended, and may not have taken ${count(this.#unsure)}`
      if (this.#unsure > 0 && !follow) throw new Refusal('crashed', unsure, 'medulla logs')
    } finally {
      await channel.close({ now: true })
    }
  }

  #listen(channel: RobotChannel): void {
    const { term } = this.#app
    channel.on('message', (message) => this.#print(message))
    channel.on('open', () => {
      if (!this.#wasOpen && process.stdin.isTTY === true && term.isRead) {
        term.note(`${this.#name} is open: each line that you type is a message, Ctrl-D or Ctrl-C ends`)
      }
      this.#wasOpen = true
      this.#isMissing = false
      this.#tell('open')
    })
    channel.on('resumed', () => {
      this.#isMissing = false
      void this.#resumed()
    })
    channel.on('restart', ({ unconfirmed }) => {
      this.#unsure += unconfirmed
      const lost = unconfirmed === 0 ? '' : `; it may not have taken ${count(unconfirmed)}`
      this.#tell('restart', `the program ended${lost}; the next one has the channel`, { unconfirmed })
    })
    channel.on('waiting', (names) => {
      const has = names.length === 0 ? 'has no channel' : `has no channel ${this.#name}, but ${names.join(', ')}`
      if (this.#wasOpen) return this.#missing(`the program in slot ${this.#slot} ${has}`)
      const [first] = names
      const hint = first === undefined ? "a program opens one with channel('NAME') in run" : `medulla channel ${first}`
      this.#fail(new Refusal('not-found', `the program in slot ${this.#slot} ${has}`, hint))
    })
    channel.on('close', (reason) => reason !== null && this.#fail(reason))
  }

  async #send(channel: RobotChannel): Promise<void> {
    for await (const line of createInterface({ input: process.stdin })) {
      try {
        await channel.send(messageOf(line))
      } catch (error) {
        if (error instanceof RangeError) throw new Refusal('too-large', error.message)
        throw error
      }
    }
  }

  /** A connection of the channel. Waits for a robot that does not answer. */
  async #stream(token: string, signal: AbortSignal): Promise<Duplex> {
    for (;;) {
      try {
        return await this.#link.client.channelStream(this.#name, this.#slot, token, signal)
      } catch (error) {
        if (error instanceof Refusal && error.code === 'not-running') await this.#notRunning(error)
        if (signal.aborted || this.#signal.aborted || !isLost(error)) throw error
        await this.#link.back(error, this.#signal)
      }
    }
  }

  async #notRunning(reason: Refusal): Promise<void> {
    if (!this.#wasOpen) return this.#fail(reason)
    // in a swap a connection may come too late for the one program and too early for the other
    if (!this.#isMissing && (await this.#status())?.pid === undefined) this.#missing(reason.message)
  }

  #missing(why: string): void {
    if (!this.#isMissing) this.#tell('waiting', `${why}; waiting for one that has it`, { message: why })
    this.#isMissing = true
  }

  async #resumed(): Promise<void> {
    const { program, version } = (await this.#status()) ?? {}
    const by = program === undefined ? '' : ` with ${program} ${version}`
    this.#tell('resumed', `the channel goes on${by}`, { program, version })
  }

  async #status() {
    const report = await this.#link.client.status().catch(() => null)
    return report?.slots.find(({ slot }) => slot === this.#slot)
  }

  #print(message: unknown): void {
    const { term } = this.#app
    if (message instanceof Uint8Array) {
      const bytes = Buffer.from(message)
      const rest = bytes.length > SHOWN_BYTES ? '…' : ''
      term.event({ event: 'message', channel: this.#name, base64: bytes.toString('base64') })
      term.line(`${bytes.length} bytes: ${bytes.subarray(0, SHOWN_BYTES).toString('hex')}${rest}`)
    } else {
      const text = typeof message === 'string' ? message : JSON.stringify(message)
      term.event({ event: 'message', channel: this.#name, message })
      term.line(text.split(/\r?\n/).map(printable).join('\n'))
    }
  }

  /** An event, and a note about it for people. */
  #tell(event: string, note?: string, more: object = {}): void {
    const { term } = this.#app
    term.event({ event, channel: this.#name, slot: this.#slot, ...more })
    if (note !== undefined && !this.#signal.aborted) term.note(`${this.#name}: ${note}`)
  }
}

/** A line of JSON is its value, any other line is a text. */
function messageOf(line: string): unknown {
  try {
    return JSON.parse(line)
  } catch {
    return line
  }
}

const count = (messages: number): string => `${messages} ${messages === 1 ? 'message' : 'messages'}`
