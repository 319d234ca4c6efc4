/**
 * The image in QEMU's `virt` machine, with its own kernel: the first start from medulla.toml, then a laptop's pushes, swaps,
 * rollback and a restart, over a GPIO chip (the machine's PL061) of the arm64 kernel. QEMU translates every instruction, so a time
 * measured here compares with other times measured here only.
 */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Laptop } from '../deploy/laptop/cli/medulla.ts'
import { eventually, SCALE } from '../e2e/eventually.ts'
import { image } from './given.ts'
import { Card, Machine } from './machine.ts'

const BOARD = {
  model: 'linux',
  chip: '9030000.pl061',
  timing: { readyMs: 120_000, yieldMs: 10_000, takeoverMs: 10_000, heartbeatMs: 10_000, trialMs: 2000 },
  handles: {
    led: { kind: 'output', line: 'GPIO0', safe: 0 },
  },
}

const PROGRAM = (version: number, level: 0 | 1) => `// version ${version}
import { robot } from 'medulla'
robot({
  needs: { led: 'output' },
  state: { version: 1, initial: () => ({ ticks: 0 }) },
  run({ led, state, every, log, info }) {
    led.write(${level})
    log('v${version} ' + (info.tookOver ? 'took over' : 'started') + ' at tick ' + state.ticks)
    every(100, () => { state.ticks += 1 })
  },
})
`

/** How often the power is cut while a program is pushed. */
const CUTS = Number(process.env.MEDULLA_CUTS) || 3

const folder = mkdtempSync(join(tmpdir(), 'medulla-virt-'))
let laptop: Laptop
let machine: Machine
let key: string
const figures: string[] = []
const program = () => join(laptop.dir, 'swing.mjs')
const figure = (what: string, ms: number) => figures.push(`${what}: ${(ms / 1000).toFixed(1)} s`)

beforeAll(async () => {
  laptop = new Laptop()
  expect(await laptop.run('keygen')).toMatchObject({ status: 0 })
  key = join(laptop.dir, '.ssh/id_ed25519')
  if (!existsSync(key)) key = join(laptop.dir, 'config/id_ed25519')
  const card = new Card(image(), folder)
  const board = join(folder, 'board.json')
  writeFileSync(board, JSON.stringify(BOARD))
  writeFileSync(program(), PROGRAM(0, 1))
  const settings = ['--board', board, '--program', program(), '--hostname', 'arm', '--ssh', `${key}.pub`]
  const written = await laptop.run('image', ...settings, card.disk)
  expect(written, written.stderr).toMatchObject({ status: 0 })
  machine = new Machine(card, 'virt')
  figure('power-on until ssh answers, first start', await machine.start(key))
})
afterAll(async () => {
  await machine?.cut()
  console.log(figures.join('\n'))
  rmSync(folder, { recursive: true, force: true })
})

const said = (command: string) => {
  const ended = machine.ssh(key, command)
  if (ended.status !== 0) throw new Error(`${command}: ${ended.stderr}`)
  return ended.stdout.trim()
}

test('the first start applies medulla.toml and makes the identity of this robot', async () => {
  expect(said('hostname')).toBe('arm')
  expect(said('uname -m')).toBe('aarch64')
  expect(
    said('cat /boot/firmware/medulla-report.txt 2>/dev/null || sudo cat /boot/firmware/medulla-report.txt'),
  ).toContain('applied: medulla.toml')
  console.log(said('systemd-analyze; sudo systemd-analyze critical-chain medulla.service --no-pager; free -m; df -h'))
  expect(said('systemctl --failed --no-legend --plain')).toBe('')
  // read-only, but for the data partition, which fills the card
  expect(said('findmnt -no OPTIONS /')).toMatch(/^ro,/)
  expect(Number(said('findmnt -bno SIZE /data'))).toBeGreaterThan(400e6)
  expect(said('sudo stat -c "%a %U" /var/lib/medulla /data/etc/ssh_host_ed25519_key')).toBe('700 root\n600 root')
})

test('koffi, i2c-bus, epoll and onoff load, and the doctor finds a system that can confine programs', async () => {
  const load = "for (const name of ['koffi', 'i2c-bus', 'epoll', 'onoff']) { require(name); console.log(name) }"
  expect(said(`cd /usr/lib/medulla && node -e "${load}"`)).toBe('koffi\ni2c-bus\nepoll\nonoff')
  console.log(machine.ssh(key, 'sudo medulla doctor').stdout)
})

test('BUNDLE 19: the program of the card runs, over a line of the arm64 kernel', async () => {
  writeFileSync(join(folder, 'robot.json'), said('sudo cat /var/lib/medulla/robot.json'))
  const known = await laptop.run('trust', 'arm', `127.0.0.1:${machine.port}`, '--card', join(folder, 'robot.json'))
  expect(known, known.stderr).toMatchObject({ status: 0 })
  await eventually(async () => (await laptop.run('status')).stdout.includes('running'), 120_000 * SCALE)
  expect((await laptop.run('logs')).stdout).toContain('v0 started at tick 0')
  expect(said('sudo cat /sys/kernel/debug/gpio')).toMatch(/gpio-\S+ .* out hi/)
})

test('a push from the host runs, is swapped 3 times and rolled back over a line of the arm64 kernel', async () => {
  for (let version = 1; version <= 4; version++) {
    writeFileSync(program(), PROGRAM(version, version % 2 === 1 ? 1 : 0))
    const began = performance.now()
    const pushed = await laptop.run('push', program())
    figure(`push ${version}`, performance.now() - began)
    expect(pushed, pushed.stderr).toMatchObject({ status: 0 })
    console.log(pushed.stdout, pushed.stderr)
    // the kernel's own view of the line
    expect(said('sudo cat /sys/kernel/debug/gpio')).toMatch(
      version % 2 === 1 ? /gpio-\S+ .* out hi/ : /gpio-\S+ .* out lo/,
    )
  }
  const back = await laptop.run('rollback')
  expect(back, back.stderr).toMatchObject({ status: 0 })
  const status = await laptop.run('status')
  console.log(status.stdout)
  const logs = await laptop.run('logs')
  console.log(logs.stdout)
  console.log(
    said(
      'sudo cat /proc/$(systemctl show -p MainPID --value medulla)/status | grep -i vmrss; ps -eo pid,user,rss,nice,args | grep [m]edulla',
    ),
  )
})

test('after a restart of the system the program runs again', async () => {
  figure('restart until ssh answers', await machine.reboot(key))
  await eventually(async () => (await laptop.run('status')).stdout.includes('running'), 180_000 * SCALE)
  console.log(said('systemd-analyze'))
})

test('HANDOVER 16.9: a body that stands still is ended, systemd starts it again, and the program runs', async () => {
  const unit = () => said('systemctl show medulla -p NRestarts -p MainPID -p ActiveState')
  const before = unit()
  const began = performance.now()
  said('sudo kill -STOP $(systemctl show -p MainPID --value medulla)')
  await eventually(async () => (await laptop.run('status')).status !== 0, 180_000 * SCALE)
  await eventually(async () => (await laptop.run('status')).stdout.includes('running'), 300_000 * SCALE)
  figure('from a body that is stopped until its successor runs the program', performance.now() - began)
  const after = unit()
  figures.push(`${before.split('\n').join(' ')}, then ${after.split('\n').join(' ')}`)
  expect(after).not.toBe(before)
  console.log(said('sudo journalctl -u medulla -b -n 30 --no-pager'))
})

test(`the power is cut ${CUTS} times while a program is pushed: the old one or the new one runs, and the log is whole`, async () => {
  const version = async () => Number(/v(\d+) started/.exec((await laptop.run('logs')).stdout)?.[1])
  let ran = 3
  let pushMs = 20_000
  for (let cut = 1; cut <= CUTS; cut++) {
    const next = 10 + cut
    writeFileSync(program(), PROGRAM(next, next % 2 === 1 ? 1 : 0))
    const began = performance.now()
    const pushing = laptop.run('push', program())
    await Promise.race([pushing, sleep((pushMs * (cut - 0.5)) / CUTS)])
    await machine.cut()
    const { status } = await pushing
    // a push that was over shows how long one takes
    if (status === 0) pushMs = performance.now() - began
    figure(`power-on after cut ${cut}, until ssh answers`, await machine.start(key))
    await eventually(async () => (await laptop.run('status')).stdout.includes('running'), 180_000 * SCALE)
    const runs = await version()
    figures.push(`cut ${cut}: v${ran} ran, v${next} was pushed (exit ${status}), v${runs} runs`)
    expect([ran, next]).toContain(runs)
    if (status === 0) expect(runs).toBe(next)
    ran = runs
    const verified = await laptop.run('receipts', '--verify')
    expect(verified, verified.stderr).toMatchObject({ status: 0 })
    expect(said('sudo cat /sys/kernel/debug/gpio')).toMatch(
      runs % 2 === 1 ? /gpio-\S+ .* out hi/ : /gpio-\S+ .* out lo/,
    )
    expect(said('systemctl --failed --no-legend --plain')).toBe('')
  }
})
