/**
 * Answers the endpoint's messages. Invariant: the endpoint is treated as hostile: its messages are bounded and parsed, one
 * outside the protocol ends it, and its death touches no program (HANDOVER 8.1, 8.3; test/e2e/endpoint.test.ts).
 */
import type { ChildProcess } from 'node:child_process'
import type { Duplex } from 'node:stream'
import type { EndpointReport, Order, ParamReport, PushEvent } from '../../../deploy/shared/api.ts'
import type { SignedCertificate } from '../../../deploy/shared/cert.ts'
import { REFUSAL_CODES, Refusal, type RefusalCode } from '../../../deploy/shared/errors.ts'
import { boardReport } from '../../board.ts'
import { type BodyMessage, EndpointMessage, IPC_MAX_LINE } from '../../ipc.ts'
import { Backoff } from '../../plumbing/backoff.ts'
import { Budget, ENDPOINT_ALLOWANCE } from '../../plumbing/budget.ts'
import { readLines } from '../../plumbing/lines.ts'
import { type EndpointKeys, readEndpointKeys } from '../../store/home.ts'
import type { Operator } from '../../store/operators.ts'
import type { Body } from '../body.ts'
import type { Installer } from '../orders/installer.ts'
import type { Slot } from '../slot/slot.ts'
import { type EndpointProcess, startEndpoint } from './endpointprocess.ts'
import { chosen, followed } from './logquery.ts'
import { Peer } from './peer.ts'

/** A followed stream is ended when this many bytes wait to be sent. */
const MAX_BEHIND = 4 * 1024 * 1024
/** Most log lines that may arrive while the stored lines of a followed log are being sent. */
const MAX_EARLY = 10_000
const NOT_READ = new Refusal(
  'too-large',
  'this stream was ended because it was not read fast enough',
  'read faster, or ask for less',
)

export interface EndpointEvents {
  /** Called once: later endpoints have the same port. */
  listening(port: number): void
  /** The endpoint cannot serve, and trying again would not help. */
  failed(refusal: Refusal): void
  note(level: 'info' | 'warn' | 'error', text: string): void
}

export class EndpointLink {
  readonly #body: Body
  readonly #installer: Installer
  readonly #events: EndpointEvents
  readonly #backoff = new Backoff(200, 10_000)
  #starting: Promise<void>
  #child: ChildProcess | null = null
  #port: number
  #report: EndpointReport = { user: null, sandbox: 'none', seccomp: false }
  /** An endpoint was started before: its address can be bound. */
  #hasStarted = false
  #announced = false
  #closed = false

  constructor(body: Body, installer: Installer, events: EndpointEvents) {
    this.#body = body
    this.#installer = installer
    this.#events = events
    this.#port = body.options.port
    this.#starting = this.#launch()
  }

  /** The list of operators has changed: the endpoint checks its sessions again. */
  operatorsChanged(): void {
    const socket = this.#child?.stdio[3] as Duplex | undefined
    socket?.write(`${JSON.stringify({ op: 'operators' } satisfies BodyMessage)}\n`)
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.#starting
    const child = this.#child
    if (child === null || child.exitCode !== null || child.signalCode !== null) return
    const ended = new Promise((resolve) => child.once('exit', resolve))
    child.kill('SIGKILL')
    await ended
  }

  async #launch(): Promise<void> {
    const { host } = this.#body.options
    const { own, why, release } = this.#body.sandboxes.takeEndpoint()
    // As root, the endpoint should have a user of its own (HANDOVER 8.13).
    if (why !== null) this.#events.note('warn', `the endpoint runs as root: ${why}`)
    try {
      const keys = await readEndpointKeys(this.#body.home)
      const started = await startEndpoint({ folder: this.#body.endpointFolder, host, port: this.#port, own })
      started.child.once('exit', release)
      this.#serve(started, keys)
    } catch (error) {
      release()
      this.#notStarted(error as NodeJS.ErrnoException)
    }
  }

  /** An address that cannot be bound at the first start ends the body; after any other failure the start is tried again. */
  #notStarted({ code, syscall, message }: NodeJS.ErrnoException): void {
    if (this.#closed) return
    if (this.#hasStarted || (syscall !== 'listen' && syscall !== 'getaddrinfo')) {
      this.#events.note('error', `the endpoint was not started: ${message}`)
      return this.#restartLater()
    }
    this.#closed = true
    const used = code === 'EADDRINUSE'
    const hint = used ? 'choose another one with --port, or stop what uses it' : 'choose others with --host and --port'
    this.#events.failed(new Refusal(used ? 'port-in-use' : 'usage', message, hint))
  }

  #serve({ child, link, urgent, port, confine, report }: EndpointProcess, keys: EndpointKeys): void {
    this.#child = child
    this.#port = port
    this.#report = report
    this.#hasStarted = true
    const hostile = (why: string) => {
      if (child.killed) return
      this.#events.note('error', `endpoint ended: ${why}`)
      child.kill('SIGKILL')
    }
    child.once('error', (error) => {
      this.#events.note('error', `endpoint: ${error.message}`)
      if (child.pid === undefined) this.#restartLater()
    })
    const peer = new Peer(link, hostile)
    // Stops have a pipe of their own without a budget (HANDOVER 8.8): they are few, because each waits for its answer.
    const stops = new Peer(urgent, hostile)
    child.once('exit', () => {
      peer.end()
      this.#restartLater()
    })
    let listening = false
    const read = (from: Peer, known: (op: EndpointMessage['op']) => boolean, budget: Budget | null) =>
      readLines(
        from.socket,
        IPC_MAX_LINE,
        (line) => {
          const message = parse(line)
          if (message === null || !known(message.op)) return hostile('it sent a message that is not in the protocol')
          if (message.op === 'failed' && listening)
            return hostile('it reported that it cannot serve after it had served')
          listening ||= message.op === 'listening'
          void this.#answer(message, from)
        },
        () => hostile('it sent an endless line'),
        budget,
      )
    read(peer, () => true, new Budget(ENDPOINT_ALLOWANCE))
    read(stops, (op) => op === 'stop' || op === 'estop', null)
    const { home, options } = this.#body
    const { name, id: robot } = home
    peer.send({ op: 'config', confine, keys, name, robot, version: options.version })
  }

  #restartLater(): void {
    if (this.#closed) return
    const wait = this.#backoff.nextMs()
    this.#events.note('warn', `the endpoint ended; starting a new one in ${wait} ms`)
    setTimeout(() => {
      if (!this.#closed) this.#starting = this.#launch()
    }, wait)
  }

  async #answer(message: EndpointMessage, peer: Peer): Promise<void> {
    const { id } = message
    const item = (value: unknown) => peer.send({ op: 'item', id, item: value })
    const done = (value?: unknown) => peer.send(value === undefined ? { op: 'done', id } : { op: 'done', id, value })
    /** Sends an item of a followed stream. A stream whose reader is too slow is ended; the others go on. */
    const follow = (value: unknown) => {
      if (peer.socket.writableLength <= MAX_BEHIND) return item(value)
      if (!peer.follows(id)) return
      peer.cancel(id)
      peer.fail(id, NOT_READ)
    }
    try {
      switch (message.op) {
        case 'listening':
          this.#backoff.reset()
          if (!this.#announced) this.#events.listening(this.#port)
          this.#announced = true
          return
        case 'failed':
          this.#closed = true
          return this.#events.failed(new Refusal(asCode(message.code), message.message))
        case 'cancel':
          return peer.cancel(id)
        case 'install':
          await this.#installer.install(message, item)
          return done()
        case 'operators':
          return done(this.#body.operators.now.report())
        case 'nonce':
          return done({ nonce: this.#body.orders.nonce() })
        case 'order': {
          const { order, by } = this.#body.orders.check(message.signed)
          await this.#carryOut(order, by, item)
          return done()
        }
        case 'refused':
          await this.#installer.refused(
            message.slot,
            message.pusher,
            new Refusal(asCode(message.code), message.message),
            null,
          )
          return
        case 'stop':
          item(await this.#stop(message))
          return done()
        case 'estop':
          item(await this.#body.emergency.stop('an operator', message.pusher))
          return done()
        case 'status':
          return done({ ...this.#body.status(), endpoint: this.#report })
        case 'releases':
          return done(await this.#body.releases(this.#body.known(message.slot).name))
        case 'counter':
          return done(this.#body.counterRange(message.program))
        case 'params':
          return done(await this.#params(message.slot))
        case 'config-values':
          return done(await this.#body.config.report())
        case 'board':
          return done(boardReport(this.#body.board))
        case 'who':
          return done(this.#body.operators.now.who(parseCertificate(message.cert), message.noise))
        case 'signers':
          return done([...this.#body.operators.now.signers()])
        case 'receipts':
          await peer.answerLong(id, () => this.#body.receipts.read(message.limit))
          return done()
        case 'logs': {
          const slots = message.slot === null ? this.#body.all : [this.#body.known(message.slot)]
          const lines = () => chosen(slots, message)
          if (!message.follow) {
            await peer.answerLong(id, lines)
            return done()
          }
          const later = (listener: (slot: Slot) => void) =>
            this.#body.onSlot((slot) => {
              if (message.slot === null || message.slot === slot.name) listener(slot)
            })
          // New lines are held back until the stored ones are sent.
          let early: unknown[] | null = []
          const tell = (line: unknown) => {
            if (early === null) return follow(line)
            if (early.push(line) > MAX_EARLY) peer.cancel(id)
          }
          peer.follow(id, followed(slots, later, message, tell))
          await peer.answerLong(id, lines)
          const meanwhile = early
          early = null
          for (const line of meanwhile) follow(line)
          if (!peer.follows(id)) peer.fail(id, NOT_READ)
          return
        }
        case 'spare':
          this.#body.known(message.slot)
          peer.follow(id, this.#body.spares.hold(message.slot, item))
          return
        case 'pins':
          for (const pin of this.#body.pins.present(message.names)) item(pin)
          if (!message.follow) return done()
          peer.follow(
            id,
            this.#body.pins.onChange(({ changed, accepted, ...pin }) => {
              if (changed && accepted && message.names?.includes(pin.name) !== false) follow(pin)
            }),
          )
          return
      }
    } catch (error) {
      const refusal = error instanceof Refusal ? error : new Refusal('internal', 'the runtime failed')
      if (refusal !== error) this.#events.note('error', String(error instanceof Error ? error.stack : error))
      peer.fail(id, refusal)
    }
  }

  async #carryOut(order: Order, by: Operator, answer: (value: unknown) => void): Promise<void> {
    switch (order.order) {
      case 'start': {
        const slot = this.#body.committed(order.slot)
        await this.#body.config.admit(slot.name)
        await slot.start(by.fingerprint)
        return answer(resultOf('started', `slot ${order.slot} is started; medulla status shows how it goes`))
      }
      case 'rollback':
        return this.#installer.rollback(order, by.fingerprint, answer)
      case 'set':
        return answer(this.#body.set(order.handle, order.value, by.name))
      case 'poke':
        return answer(this.#body.pins.poke(order.handle, order.what, order.value))
      case 'params': {
        const { params } = this.#body.known(order.slot)
        const runs = await params.program()
        await params.change(order.change, runs, by.name)
        return answer(await this.#params(order.slot))
      }
      case 'set-config':
        return answer(await this.#body.config.set(order.name, order.sealed, by))
      case 'unset-config':
        return answer(await this.#body.config.unset(order.name, by))
      case 'release':
        return answer(await this.#body.emergency.release(by.fingerprint))
      case 'add-operator':
      case 'change-role':
      case 'remove-operator':
        answer(await this.#body.operators.change(order, by.fingerprint))
        // After the answer: the change may end the session that gave the order.
        setImmediate(() => this.operatorsChanged())
        return
      case 'reset-floor':
        return answer(await this.#body.resetFloor(order.program, by.fingerprint))
      case 'push':
        throw new Refusal('usage', 'an order to push goes with its bundle')
    }
  }

  async #params(name: string): Promise<ParamReport> {
    const slot = this.#body.known(name)
    const runs = await slot.params.program()
    const { program, version } = runs
    return { slot: name, program, version, params: slot.params.report(runs) }
  }

  async #stop({ slot: name, pusher }: Extract<EndpointMessage, { op: 'stop' }>): Promise<PushEvent> {
    const slot = this.#body.known(name)
    this.#body.orders.stopped(name)
    const problem = await slot.stop('stop', pusher)
    await this.#body.letGo(slot)
    const done = `slot ${name} is stopped, its outputs are at their safe levels`
    return resultOf('stopped', problem === null ? done : `${done}; but ${problem}`)
  }
}

const resultOf = (outcome: 'started' | 'stopped', message: string): PushEvent => ({
  event: 'result',
  outcome,
  message,
})

function parse(line: string): EndpointMessage | null {
  try {
    const parsed = EndpointMessage.safeParse(JSON.parse(line))
    return parsed.success ? parsed.data : null
  } catch {
    return null
  }
}

function parseCertificate(text: string): SignedCertificate {
  try {
    return JSON.parse(text) as SignedCertificate
  } catch {
    throw new Refusal('unknown-format', 'expected a certificate as JSON')
  }
}

const asCode = (code: string): RefusalCode => REFUSAL_CODES.find((known) => known === code) ?? 'internal'
