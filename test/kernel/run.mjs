/**
 * `npm run test:kernel`: runs the tests that need a real Linux kernel with lines and buses, in two machines side by side (rig.mjs).
 *
 *   --build           makes a user-mode kernel, once; runs no test
 *   --long            Debian's stock kernel in QEMU, 1,000 swaps and 100 deaths of each kind, and the files of confinement
 *   --machine uml|qemu  the machine, instead of the one that is chosen: user-mode Linux for root where there is a kernel for it
 */
import { spawn } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { chooseMachine, MACHINES } from './machine/choose.mjs'
import { asksForHelp, help } from './machine/help.mjs'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const RIG = join(ROOT, 'test/kernel/rig.mjs')

/**
 * How much slower each machine is than a Pi: the factor for every deadline. `scaleOfOthers` is for tests that are
 * made for any machine. `duration` is shown to the user. One processor each: the two machines share this computer's
 * two, and with a second one user-mode Linux needs half as much time again for the same work.
 */
const SIZES = {
  uml: { scale: 4, scaleOfOthers: 4, cpus: 1, duration: '5 to 8 minutes', silentS: 480 },
  qemu: { scale: 6, scaleOfOthers: 10, cpus: 1, duration: '15 minutes', silentS: 480 },
  long: { scale: 6, scaleOfOthers: 10, cpus: 1, duration: '2 to 3 hours', silentS: 1800 },
}

const DEATHS = ['kills', 'replace', 'guard', 'cgroups', 'doctor'].map((name) => `test/kernel/${name}.rig.ts`)
const RIG_TESTS = readdirSync(join(ROOT, 'test/kernel'), { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.rig.ts'))
  .map((file) => `test/kernel/${file}`)

/**
 * Files for the rig, about the same work in both parts; with --long also `others`, which are made for any machine and run
 * here under a kernel that lets them do all they can. End-to-end tests on simulated boards are not among them: test:long
 * runs them on the host with the same confinement, and what a kernel adds to an undone push is a test of `swaps`.
 */
const PARTS = [
  {
    name: 'deaths',
    kernel: DEATHS,
    others: ['test/runtime/body/sandbox/confinement.test.ts', 'test/runtime/sdk/seccomp.test.ts'],
  },
  {
    name: 'swaps',
    kernel: RIG_TESTS.filter((file) => !DEATHS.includes(file)),
    others: [],
  },
]

/** Exit code of rig.mjs when the command printed nothing for too long. */
const SILENT = 123

/** Lines with measured figures, which are shown again at the end. */
const FIGURES = /p50 .* ms, p99 /

const OPTIONS = {
  build: { type: 'boolean', default: false },
  long: { type: 'boolean', default: false },
  machine: { type: 'string' },
}

let interrupted = false
process.once('SIGTERM', () => {
  interrupted = true
})

try {
  if (asksForHelp(process.argv.slice(2))) help(import.meta.url)
  else process.exitCode = await main(parseArgs({ options: OPTIONS }).values)
} catch (error) {
  if (!error?.code?.startsWith('ERR_PARSE_ARGS')) throw error
  say(`error: ${error.message}`)
  say('hint: npm run test:kernel -- --help')
  process.exitCode = 2
}

async function main(values) {
  // without MEDULLA_RIG_KERNEL, as --build makes the default kernel
  if (values.build) return node([RIG, 'build', '--machine', 'uml'], { MEDULLA_RIG_KERNEL: '' })
  const { long } = values
  const machine = values.machine ?? (long ? 'qemu' : chooseMachine(process.env))
  if (!Object.hasOwn(MACHINES, machine)) {
    say(`error: expected uml or qemu after --machine, got ${machine}`)
    return 2
  }
  const size = SIZES[long ? 'long' : machine]
  const rounds = long ? '1,000 swaps and 100 deaths of each kind' : '100 swaps and 10 deaths of each kind'
  say(`${rounds} in ${MACHINES[machine].name}`)
  say(`this takes about ${size.duration} on two cores`)
  if (machine === 'qemu' && !long && values.machine === undefined) {
    const made = 'npm run test:kernel -- --build makes a faster kernel (10 minutes, once)'
    say(
      `hint: ${process.getuid() === 0 ? made : 'root gets user-mode Linux, which is faster, where there is a kernel for it'}`,
    )
  }
  const built = await rig(['build', '--machine', machine])
  if (built !== 0) return built
  /** Beside the part that takes longer. */
  let sim
  const results = await Promise.all(
    PARTS.map(async (part) => {
      const result = await tryPart(part, { machine, size, long })
      if (!interrupted) sim ??= runSim()
      return result
    }),
  )
  if (sim !== undefined) results.push(await sim)
  report(results, machine)
  return interrupted ? 130 : (results.find(({ status }) => status !== 0)?.status ?? 0)
}

/**
 * Now and then a QEMU guest stops for good; the cause is unknown (test/README.md). Then the part runs once more, and this
 * is printed; a test that failed before the stop counts. A robot that does not answer is not such a stop: tests wait for an
 * answer with deadlines.
 */
async function tryPart(part, how) {
  const result = await runPart(part, how)
  if (result.status !== SILENT || how.machine !== 'qemu') return result
  say(`${part.name}: the machine stopped, and is started once more`)
  const again = await runPart(part, how)
  const failures = [...result.failures, ...again.failures]
  return { ...again, failures, status: again.status === 0 && failures.length > 0 ? 1 : again.status, stopped: true }
}

/**
 * Runs one machine: first the files for the rig, then the others. Each line of its output begins with its name. Returns its exit
 * code, its time, the lines with figures, and vitest's lines about failed tests.
 */
async function runPart({ name, kernel, others }, { machine, size, long }) {
  const vitest = 'node node_modules/vitest/vitest.mjs run --reporter=verbose --config'
  const scale = `MEDULLA_TIME_SCALE=${size.scaleOfOthers}`
  const commands = [`${vitest} test/kernel/vitest.config.ts ${kernel.join(' ')}`]
  const wanted = [kernel.length]
  if (long && others.length > 0) {
    commands.push(`${scale} ${vitest} test/vitest.config.ts --no-file-parallelism ${others.join(' ')}`)
    wanted.push(others.length)
  }
  const env = [`MEDULLA_TIME_SCALE=${size.scale}`, 'MEDULLA_SANDBOX=namespaces', 'NO_COLOR=1']
  if (long) env.push('MEDULLA_LONG=1')
  const limits = ['--timeout', long ? '21600' : '2400', '--silent', String(size.silentS), '--cpus', String(size.cpus)]
  const options = ['--machine', machine, ...limits, ...env.flatMap((pair) => ['--env', pair])]
  // the second command runs also when the first has failed
  const script = commands.length === 1 ? commands[0] : `${commands[0]}; first=$?; ${commands[1]} && exit $first`
  const failures = []
  const figures = []
  /** Number of passed tests of each command. */
  const [ran, passed] = [[], []]
  let failing = false
  const started = performance.now()
  const status = await rig(['run', ...options, '--', 'sh', '-c', script], (line) => {
    if (line.trim() === '') return
    process.stdout.write(`${name}: ${line}\n`)
    if (FIGURES.test(line)) figures.push(line.trim())
    if (/ Failed (Tests|Suites) /.test(line)) failing = true
    else if (/^ *Test Files /.test(line)) failing = false
    if (failing) failures.push(`  ${line}`)
    const files = /^ *Test Files .*\((\d+)\)/.exec(line)?.[1]
    if (files !== undefined) ran.push(Number(files))
    if (/^ *Tests /.test(line)) passed.push(Number(/(\d+) passed/.exec(line)?.[1] ?? 0))
  })
  // vitest does not fail when a given name matches no file
  const missed = status === 0 && (String(ran) !== String(wanted) || passed.some((n) => n === 0))
  if (missed) failures.push(`  expected ${wanted.join(' and ')} files, got ${ran.join(' and ')}`)
  return { name, status: missed ? 1 : status, failures, figures, seconds: (performance.now() - started) / 1000 }
}

/** `medulla sim --kernel`, which starts a machine of its own. */
async function runSim() {
  const [name, started] = ['sim', performance.now()]
  const vitest = ['node_modules/vitest/vitest.mjs', 'run', '--reporter=verbose', '--config', 'test/vitest.config.ts']
  const args = [...vitest, 'test/deploy/laptop/cli/kernel.test.ts']
  const status = await node(args, { MEDULLA_KERNEL: '1', NO_COLOR: '1' }, (line) => {
    if (line.trim() !== '') process.stdout.write(`${name}: ${line}\n`)
  })
  return { name, status, failures: [], figures: [], seconds: (performance.now() - started) / 1000 }
}

/** Printed last, because the failure itself is thousands of lines further up. */
function report(results, machine) {
  for (const { name, status, seconds, figures, failures, stopped } of results) {
    const again = stopped ? ', after a machine that stopped' : ''
    say(`${name}: ${status === 0 ? 'passed' : `ended with ${status}`} in ${seconds.toFixed(0)} s (${machine})${again}`)
    for (const figure of figures) say(`  ${figure}`)
    if (failures.length > 0) say(failures.join('\n'))
  }
  const bad = results.filter(({ status }) => status !== 0)
  say(bad.length === 0 ? 'all parts passed' : `failed: ${bad.map(({ name }) => name).join(', ')}`)
}

function rig(args, take) {
  return node([RIG, ...args], {}, take)
}

/** Resolves to the exit code. Without `take` the output goes to ours. */
function node(args, env, take) {
  const stdio = take === undefined ? ['ignore', 'inherit', 'inherit'] : ['ignore', 'pipe', 'pipe']
  const child = spawn(process.execPath, args, { cwd: ROOT, stdio, env: { ...process.env, ...env } })
  for (const stream of [child.stdout, child.stderr]) {
    if (stream !== null) createInterface({ input: stream }).on('line', take)
  }
  const stop = () => child.kill('SIGTERM')
  process.once('SIGTERM', stop)
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) => {
      if (signal !== null) say(`${args[0]} was ended by ${signal}`)
      process.removeListener('SIGTERM', stop)
      resolve(code ?? 1)
    })
  })
}

function say(text) {
  process.stderr.write(`medulla: ${text}\n`)
}
