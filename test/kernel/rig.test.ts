/** rig.mjs as a command of the host. No kernel boots: a program with the name bwrap says what a guest would say. */
import { execFileSync, spawn } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import { beforeEach, expect, test } from 'vitest'
import { eventually } from '../e2e/eventually.ts'
import { tempFolder } from '../fixtures/tools.ts'

const RIG = fileURLToPath(new URL('rig.mjs', import.meta.url))
const RUN = fileURLToPath(new URL('run.mjs', import.meta.url))
/** The rig puts the host's busybox into the guest; not every computer has it. */
const HAS_BUSYBOX = existsSync('/bin/busybox')
const SKIPPED = HAS_BUSYBOX ? '' : ' (skipped: needs busybox-static)'
const boots = test.runIf(HAS_BUSYBOX)

let folder: string
let kernel: string
beforeEach(() => {
  folder = tempFolder()
  for (const name of ['bin', 'kernel', 'tmp']) mkdirSync(join(folder, name))
  kernel = join(folder, 'kernel/linux')
  copyFileSync('/bin/true', kernel)
  writeFileSync(join(folder, 'kernel/initrd.gz'), gzipSync(''))
})

/** What the guest does instead of booting: a shell script, with stdout, stderr and status at the descriptors 3 to 5. */
function guest(script: string): void {
  writeFileSync(join(folder, 'bin/bwrap'), `#!/bin/sh\n${script}\n`, { mode: 0o755 })
}

function start(args: string[], program = RIG) {
  const env = {
    PATH: `${join(folder, 'bin')}:${process.env.PATH}`,
    HOME: folder,
    TMPDIR: join(folder, 'tmp'),
    MEDULLA_RIG_KERNEL: kernel,
  }
  const child = spawn(process.execPath, [program, ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] })
  let [stdout, stderr] = ['', '']
  child.stdout.setEncoding('utf8').on('data', (text) => {
    stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text) => {
    stderr += text
  })
  const ended = new Promise<{ status: number | null; stdout: string; stderr: string }>((resolve) => {
    child.once('close', (status) => resolve({ status, stdout, stderr }))
  })
  return { child, ended }
}

const rig = (...args: string[]) => start(args).ended
const uml = (...args: string[]) => rig('run', '--machine', 'uml', ...args, '--', 'true')
const left = () => readdirSync(join(folder, 'tmp'))

test('--help and -h print the help, also behind a command, and a wrong argument names it', async () => {
  for (const args of [['--help'], ['-h'], ['run', '--help'], ['build', '-h']]) {
    const { status, stdout } = await rig(...args)
    expect({ status, stdout }).toEqual({ status: 0, stdout: expect.stringMatching(/^Boots a Linux kernel/) })
  }
  for (const args of [[], ['x'], ['run'], ['run', '--x', '--', 'true'], ['which', 'x'], ['run', '--']]) {
    expect(await rig(...args)).toMatchObject({ status: 2, stderr: expect.stringContaining('rig: hint: node test/') })
  }
  expect(await start(['--help'], RUN).ended).toMatchObject({ status: 0, stdout: expect.stringContaining('--long') })
  expect(await start(['--x'], RUN).ended).toMatchObject({ status: 2, stderr: expect.stringContaining('-- --help') })
})

boots(`the exit code of the command is the exit code of the rig${SKIPPED}`, async () => {
  guest('echo hello >&3; echo started >&5; echo exit 7 >&5')
  expect(await uml()).toEqual({ status: 7, stdout: 'hello\n', stderr: '' })
  expect(left()).toEqual([])
})

test('a file that is no user-mode kernel is refused by name, before it is started', async () => {
  guest('echo started >&5; echo exit 0 >&5')
  const refused = (text: string) => ({
    status: 125,
    stderr: expect.stringMatching(`^rig: error: .*${text}.*\nrig: hint: `),
  })
  for (const bytes of ['#!/bin/sh\n', '', gzipSync('text')]) {
    writeFileSync(kernel, bytes)
    expect(await uml()).toEqual({ stdout: '', ...refused('linux is not a user-mode kernel') })
  }
  writeFileSync(kernel, gzipSync(readFileSync('/bin/true')).subarray(0, 1000))
  expect(await uml()).toMatchObject(refused('cannot be unpacked'))
  kernel = join(folder, 'kernel/plain')
  writeFileSync(kernel, readFileSync('/bin/true'), { mode: 0o644 })
  expect(await uml()).toMatchObject(refused('plain is not executable'))
  kernel = join(folder, 'kernel')
  writeFileSync(join(folder, 'initrd.gz'), '')
  expect(await uml()).toMatchObject(refused('kernel is not a file'))
})

boots(`a guest that ends early is told from one that the command ended, each with a hint${SKIPPED}`, async () => {
  guest('echo no modules')
  expect(await uml()).toMatchObject({
    status: 125,
    stderr: expect.stringMatching(
      /no modules\n.* before it started the command;.*\nrig: hint: copy .*MEDULLA_RIG_KERNEL/,
    ),
  })
  guest('echo started >&5')
  expect(await uml()).toMatchObject({
    status: 125,
    stderr: expect.stringMatching(/without saying how the command ended.*\nrig: hint: did the command/),
  })
  expect(left()).toEqual([])
})

test('--out does not take a folder that the guest needs for itself, nor one that cannot be made', async () => {
  for (const out of ['/', '/run', '/run/rig/x', '/proc/x', '/sys', '/dev', '/etc/passwd', 'a\nb']) {
    const { status, stderr } = await uml('--out', out)
    expect({ out, status, stderr }).toMatchObject({ status: 2, stderr: expect.stringContaining('expected --out DIR') })
  }
})

boots(`a temporary folder that is missing is an error with a hint, not a stack${SKIPPED}`, async () => {
  const { status, stderr } = await uml('--timeout', '5')
    .then(() => execFileSync('rm', ['-r', join(folder, 'tmp')]))
    .then(() => uml())
  expect({ status, stderr }).toEqual({
    status: 125,
    stderr: expect.stringMatching(/^rig: error: ENOENT.*\nrig: hint: .*TMPDIR.*\n$/),
  })
})

boots(`interrupted while it starts, the rig leaves no folder and no guest${SKIPPED}`, async () => {
  const pids = join(folder, 'pids')
  guest(`echo $$ >>${pids}; echo started >&5; exec sleep 1000`)
  const initrd = join(folder, 'kernel/initrd.gz')
  execFileSync('sh', ['-c', `rm ${initrd} && mkfifo ${initrd}`])
  const { child, ended } = start(['run', '--machine', 'uml', '--', 'true'])
  // the rig waits in its read of the FIFO
  await eventually(() => left().length > 0)
  child.kill('SIGINT')
  // with `r+` the open does not wait for a reader, which a rig that the signal has ended no longer is
  writeFileSync(initrd, gzipSync(''), { flag: 'r+' })
  expect(await ended).toMatchObject({ status: 130 })
  expect(left()).toEqual([])
  const started = existsSync(pids) ? readFileSync(pids, 'utf8').trim().split('\n') : []
  await eventually(() => started.every((pid) => !existsSync(`/proc/${pid}/exe`)))
})

boots(
  `a silent guest in user-mode Linux is asked what it does, and the answer is in a file${SKIPPED}`,
  { tags: ['slow'] },
  async () => {
    // answers each key that it is asked, as process 1 of a guest does
    guest('echo booted; echo started >&5; while read -r key; do echo "asked $key"; done <&5')
    const { status, stderr } = await uml('--silent', '0.5')
    const file = /what the machine did then is in (\S+)\n/.exec(stderr)?.[1] ?? ''
    expect({ status, stderr }).toEqual({ status: 123, stderr: expect.stringContaining('nothing was said for 0.5 s') })
    const text = readFileSync(file, 'utf8')
    expect(text).toMatch(/== the console until then\nbooted\n/)
    expect(text).toMatch(/ bwrap S user /)
    expect(text).toMatch(/== the console since then\nasked 9\nasked l\n/)
  },
)
