/**
 * A Linux kernel of our own, with the hardware interfaces of a Raspberry Pi and no Pi: Debian's 6.12 in QEMU, which
 * translates every instruction (no KVM is needed), over the host's own root, so the host's node and this folder's
 * node_modules run in it.
 *
 *   node test/kernel/rig.mjs packages                      the packages of the host that are needed
 *   node test/kernel/rig.mjs build                         fetches and compiles, once; run does it too
 *   node test/kernel/rig.mjs run [--timeout SECONDS] [--cpus N] [--env K=V]... [--out DIR] [--forward HOSTPORT:GUESTPORT]
 *                                -- COMMAND ARGS...
 *
 * `run` boots, runs the command in the same folder as root, and ends with its exit code: 124 when the time was over
 * (default 300 s), 125 when the rig itself failed, 130 when it was told to end. DIR is a folder of the host that the
 * command can write; everything else it writes goes when the guest ends. With --forward a port of the host's 127.0.0.1
 * leads to one of the guest, whose network has nothing else. It is told MEDULLA_RIG=1.
 *
 * What is there: gpiochip0 with 54 lines and the label pinctrl-bcm2711 (gpio-sim), also in sysfs; i2c-1 and i2c-2 with
 * chips (modules/medulla_i2c.c); pwmchip0 with 4 channels (modules/medulla_pwm.c); spidev0.0 and 0.1, looped back
 * (modules/medulla_spi.c); cgroup v2 with cpu, memory and pids; debugfs, tracefs, configfs; two CPUs, SCHED_FIFO.
 * guest.ts pulls lines, reads counters and traces opens from inside. Times measured in the guest mean nothing.
 */
import { mkdirSync } from 'node:fs'
import { resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { boot } from './boot.mjs'
import { build, packages } from './build.mjs'
import { RigError } from './error.mjs'

const EXIT = { usage: 2, timeout: 124, failed: 125, interrupted: 130 }
const DEFAULT_TIMEOUT_S = 300

/** Of the host's environment, what the command in the guest is given. */
const PASSED = ['PATH', 'HOME', 'USER', 'LANG', 'CI']

const COMMANDS = {
  packages() {
    process.stdout.write(`${packages().join(' ')}\n`)
    return 0
  },
  build() {
    const started = performance.now()
    build(say)
    say(`the rig is built (${((performance.now() - started) / 1000).toFixed(1)} s)`)
    return 0
  },
  async run(args) {
    const end = args.indexOf('--')
    const command = end < 0 ? [] : args.slice(end + 1)
    const { values } = parseArgs({
      args: args.slice(0, Math.max(end, 0)),
      options: {
        timeout: { type: 'string' },
        env: { type: 'string', multiple: true },
        out: { type: 'string' },
        forward: { type: 'string' },
        cpus: { type: 'string', default: '2' },
      },
    })
    const seconds = Number(values.timeout ?? DEFAULT_TIMEOUT_S)
    if (command.length === 0) throw usage('a command after --')
    if (!(seconds > 0)) throw usage(`--timeout in seconds, got ${values.timeout}`)
    const forward = values.forward === undefined ? undefined : ports(values.forward)
    const share = values.out === undefined ? undefined : resolve(values.out)
    if (share !== undefined) mkdirSync(share, { recursive: true })
    const env = {
      TERM: 'dumb',
      ...hostEnvironment(),
      ...Object.fromEntries((values.env ?? []).map(pair)),
      MEDULLA_RIG: '1',
    }
    const image = build(say)
    const ended = await boot(
      image,
      { command, cwd: process.cwd(), env, timeoutMs: seconds * 1000, share, forward, cpus: Number(values.cpus) },
      process,
    )
    if (ended.kind === 'exit') return ended.code
    if (ended.kind === 'interrupted') return EXIT.interrupted
    const shown = ended.console.trim()
    if (shown !== '') process.stderr.write(`${shown}\n`)
    say(`error: ${ended.reason}${shown === '' ? '' : "; above is what QEMU and the guest's console said last"}`)
    if (ended.kind === 'timeout') say('hint: a longer --timeout SECONDS, when the command was only slow')
    return EXIT[ended.kind]
  },
}

function hostEnvironment() {
  return Object.fromEntries(PASSED.flatMap((name) => (process.env[name] ? [[name, process.env[name]]] : [])))
}

function pair(text) {
  const at = text.indexOf('=')
  if (at < 1) throw usage(`--env KEY=VALUE, got ${JSON.stringify(text)}`)
  return [text.slice(0, at), text.slice(at + 1)]
}

function ports(text) {
  const [, host, guest] = /^(\d{1,5}):(\d{1,5})$/.exec(text) ?? []
  if (host === undefined) throw usage(`--forward HOSTPORT:GUESTPORT, got ${JSON.stringify(text)}`)
  return { host: Number(host), guest: Number(guest) }
}

function usage(expected) {
  const error = new RigError(
    `expected ${expected}`,
    'rig.mjs run [--timeout SECONDS] [--cpus N] [--env K=V]... [--out DIR] [--forward HOSTPORT:GUESTPORT] -- COMMAND ARGS...',
  )
  return Object.assign(error, { exit: EXIT.usage })
}

function say(text) {
  process.stderr.write(`rig: ${text}\n`)
}

const [name = '', ...args] = process.argv.slice(2)
try {
  if (!Object.hasOwn(COMMANDS, name))
    throw usage(`one of ${Object.keys(COMMANDS).join(', ')}, got ${JSON.stringify(name)}`)
  process.exitCode = await COMMANDS[name](args)
} catch (error) {
  if (!(error instanceof RigError || error?.code?.startsWith('ERR_PARSE_ARGS'))) throw error
  say(`error: ${error.message}`)
  if (error.hint !== undefined) say(`hint: ${error.hint}`)
  process.exitCode = error.exit ?? (error instanceof RigError ? EXIT.failed : EXIT.usage)
}
