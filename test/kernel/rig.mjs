/**
 * Boots a Linux kernel with the hardware interfaces of a Raspberry Pi, without a Pi, over the host's own root, so that the
 * host's node and this folder's node_modules run in it. There are two machines: user-mode Linux, a program of this host in which
 * processes run natively, and Debian's 6.12 in QEMU, which translates every instruction. Neither needs KVM.
 *
 *   node test/kernel/rig.mjs packages [--machine uml|qemu] lists the needed packages of the host, for all machines or for one
 *   node test/kernel/rig.mjs build [--machine uml|qemu]    makes the files that run boots, once; for QEMU run does it, too
 *   node test/kernel/rig.mjs which                         prints uml or qemu: the machine of run without --machine
 *   node test/kernel/rig.mjs run [--machine uml|qemu] [--timeout SECONDS] [--silent SECONDS] [--cpus N] [--env K=V]...
 *                                [--out DIR] [--forward HOSTPORT:GUESTPORT] -- COMMAND ARGS...
 *
 * `run` boots, runs the command as root in the current folder, and ends with the command's exit code; with 123 when the
 * command printed nothing for the time of --silent (the state of the machine is then in a file, whose name is printed), 124
 * when the time was over (default 300 s), 125 when the rig itself failed, 130 when the rig was interrupted. DIR is a folder of
 * the host that the command can write, at the same path; everything else that it writes is lost when the guest ends. With --forward a port of the host's 127.0.0.1 leads to one of
 * the guest, whose network has nothing else. The command's environment has MEDULLA_RIG=1 and the machine's
 * name as MEDULLA_RIG_MACHINE. --cpus is 1 or 2.
 *
 * User-mode Linux is started where there is a kernel for it: MEDULLA_RIG_KERNEL names one, with its modules in initrd.gz
 * beside it, or `build --machine uml` made one.
 *
 * Hardware in the guest: gpiochip0 with 54 lines and the label pinctrl-bcm2711 (gpio-sim), also in sysfs; i2c-1 and i2c-2 with
 * chips (modules/medulla_i2c.c); pwmchip0 with 4 channels (modules/medulla_pwm.c); spidev0.0 and 0.1, looped back
 * (modules/medulla_spi.c); cgroup v2 with cpu, memory and pids; debugfs, tracefs, configfs; two CPUs; with QEMU SCHED_FIFO.
 * guest.ts pulls lines, reads counters and traces opens from inside. Times measured in the guest mean nothing.
 */
import { mkdirSync, mkdtempSync, realpathSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { BuildError } from '../../pi-image/tools/error.mjs'
import { cacheFolder } from '../../pi-image/tools/exec.mjs'
import { boot } from './machine/boot.mjs'
import { chooseMachine, imageOf, MACHINES } from './machine/choose.mjs'
import { asksForHelp, help } from './machine/help.mjs'
import { packages } from './machine/packages.mjs'
import { buildKernel } from './machine/uml-kernel.mjs'

const EXIT = { usage: 2, silent: 123, timeout: 124, failed: 125, interrupted: 130 }
const DEFAULT_TIMEOUT_S = 300
const HELP = 'node test/kernel/rig.mjs --help'

/** Variables of the host's environment that the command in the guest gets. */
const PASSED = ['PATH', 'HOME', 'USER', 'LANG', 'CI']

const MACHINE = { machine: { type: 'string' } }

const COMMANDS = {
  packages(args) {
    const { values } = parseArgs({ args, options: MACHINE })
    const wanted = values.machine === undefined ? packages() : packages(machineName(values.machine))
    process.stdout.write(`${wanted.join(' ')}\n`)
    return 0
  },
  which(args) {
    parseArgs({ args, options: {} })
    process.stdout.write(`${chooseMachine(process.env)}\n`)
    return 0
  },
  async build(args) {
    const { values } = parseArgs({ args, options: MACHINE })
    const name = machineName(values.machine)
    const started = performance.now()
    if (name === 'uml' && !process.env.MEDULLA_RIG_KERNEL) await buildKernel(say)
    await imageOf(name, process.env, say)
    say(`${MACHINES[name].name} is ready (${((performance.now() - started) / 1000).toFixed(1)} s)`)
    return 0
  },
  async run(args) {
    const end = args.indexOf('--')
    const command = end < 0 ? [] : args.slice(end + 1)
    const { values } = parseArgs({
      args: args.slice(0, Math.max(end, 0)),
      options: {
        ...MACHINE,
        timeout: { type: 'string', default: String(DEFAULT_TIMEOUT_S) },
        silent: { type: 'string' },
        env: { type: 'string', multiple: true, default: [] },
        out: { type: 'string' },
        forward: { type: 'string' },
        cpus: { type: 'string', default: '2' },
      },
    })
    if (command.length === 0) throw usage('a command after --')
    const name = machineName(values.machine)
    const share = values.out === undefined ? undefined : folder(values.out)
    const task = {
      command,
      cwd: process.cwd(),
      timeoutMs: seconds('--timeout', values.timeout) * 1000,
      silentMs: values.silent === undefined ? undefined : seconds('--silent', values.silent) * 1000,
      share,
      forward: values.forward === undefined ? undefined : ports(values.forward),
      cpus: cpus(values.cpus),
      env: {
        TERM: 'dumb',
        ...hostEnvironment(),
        ...Object.fromEntries(values.env.map(pair)),
        MEDULLA_RIG: '1',
        MEDULLA_RIG_MACHINE: name,
      },
    }
    const image = await imageOf(name, process.env, say)
    const ended = await boot(MACHINES[name], image, task, process)
    if (ended.console !== undefined && ended.kind === 'exit') {
      sayConsole({ ...ended, reason: `the command said nothing, and ended with ${ended.code}` })
    }
    if (ended.kind === 'exit') return ended.code
    if (ended.kind === 'silent') sayEvidence(ended.evidence, values.silent)
    if (ended.kind === 'timeout' || ended.kind === 'failed') sayConsole(ended)
    if (ended.kind === 'timeout') say('hint: a longer --timeout SECONDS, when the command was only slow')
    if (ended.kind === 'failed') say(`hint: ${ended.isStarted ? ENDED_BY_COMMAND : otherImage(name)}`)
    return EXIT[ended.kind]
  },
}

const ENDED_BY_COMMAND = 'did the command end the guest (poweroff, a kernel that panics)? if not, run it once more'

/** What to do about a guest that does not come up. */
function otherImage(machine) {
  if (machine === 'uml' && process.env.MEDULLA_RIG_KERNEL) {
    return 'copy the file of MEDULLA_RIG_KERNEL and the initrd.gz beside it again, or unset it to use another kernel'
  }
  return `try again; if it fails again, remove ${cacheFolder('medulla-rig')}, and the next run makes what it boots anew`
}

function sayEvidence(evidence, silent) {
  const file = join(mkdtempSync(join(tmpdir(), 'rig-silent-')), 'evidence.txt')
  writeFileSync(file, evidence)
  say(`error: nothing was said for ${silent} s; what the machine did then is in ${file}`)
}

function sayConsole({ reason, console: text }) {
  const shown = text.trim()
  if (shown !== '') process.stderr.write(`${shown}\n`)
  say(`error: ${reason}${shown === '' ? '' : "; above is what the machine and the guest's console said last"}`)
}

function machineName(given) {
  const name = given ?? chooseMachine(process.env)
  if (!Object.hasOwn(MACHINES, name)) throw usage(`uml or qemu after --machine, got ${name}`)
  return name
}

/** The longest delay of a Node timer. */
const MOST_SECONDS = 2_000_000

function seconds(option, text) {
  const number = Number(text)
  if (!(number > 0 && number <= MOST_SECONDS)) throw usage(`${option} in seconds, at most ${MOST_SECONDS}, got ${text}`)
  return number
}

function cpus(text) {
  if (text !== '1' && text !== '2') throw usage(`--cpus 1 or 2, got ${text}`)
  return Number(text)
}

/** Folders that the guest needs for itself, where a folder of the host cannot be mounted. */
const GUESTS = /^\/(?:dev|run|run\/rig(?:\/.*)?|(?:proc|sys)(?:\/.*)?)?$/

/** Makes the folder if it is missing. Returns its path without symbolic links, by which the guest mounts it. */
function folder(path) {
  const wanted = mountable(resolve(path))
  try {
    mkdirSync(wanted, { recursive: true })
    return mountable(realpathSync(wanted))
  } catch (error) {
    if (error.syscall === undefined) throw error
    throw usage(`--out DIR, a folder that can be made or written: ${error.message}`)
  }
}

function mountable(path) {
  if (GUESTS.test(path) || path.includes('\n')) {
    throw usage(
      `--out DIR other than /, /dev, /run, and what is in /proc or /sys; on one line, got ${JSON.stringify(path)}`,
    )
  }
  return path
}

function hostEnvironment() {
  return Object.fromEntries(PASSED.flatMap((name) => (process.env[name] ? [[name, process.env[name]]] : [])))
}

function pair(text) {
  const [, key, value] = /^([A-Za-z_]\w*)=(.*)$/s.exec(text) ?? []
  if (key === undefined) throw usage(`--env KEY=VALUE, got ${JSON.stringify(text)}`)
  return [key, value]
}

function ports(text) {
  const [, host, guest] = /^(\d{1,5}):(\d{1,5})$/.exec(text) ?? []
  if (![host, guest].every((port) => port >= 1 && port <= 65_535)) {
    throw usage(`--forward HOSTPORT:GUESTPORT, each from 1 to 65535, got ${JSON.stringify(text)}`)
  }
  return { host: Number(host), guest: Number(guest) }
}

function usage(expected) {
  const error = new BuildError(`expected ${expected}`, HELP)
  return Object.assign(error, { exit: EXIT.usage })
}

function say(text) {
  process.stderr.write(`rig: ${text}\n`)
}

async function main([name = '', ...args]) {
  if (asksForHelp([name, ...args])) return help(import.meta.url)
  if (!Object.hasOwn(COMMANDS, name))
    throw usage(`one of ${Object.keys(COMMANDS).join(', ')}, got ${JSON.stringify(name)}`)
  process.exitCode = await COMMANDS[name](args)
}

/** An error of which the user reads a sentence and a hint instead of a stack. */
function explained(error) {
  if (error instanceof BuildError) return error
  if (error?.code?.startsWith('ERR_PARSE_ARGS')) return Object.assign(error, { hint: HELP, exit: EXIT.usage })
  // of the host's files: a folder that cannot be written, a full disk
  if (error?.syscall !== undefined)
    return new BuildError(error.message, 'XDG_CACHE_HOME and TMPDIR name other folders for the cache and for a run')
  throw error
}

try {
  await main(process.argv.slice(2))
} catch (thrown) {
  const error = explained(thrown)
  say(`error: ${error.message}`)
  if (error.hint !== undefined) say(`hint: ${error.hint}`)
  process.exitCode = error.exit ?? EXIT.failed
}
