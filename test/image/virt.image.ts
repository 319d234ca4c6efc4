/**
 * The image in QEMU's `virt` machine, with its own kernel: the first start from medulla.toml, then a laptop's pushes, swaps,
 * rollback and a restart, over a GPIO chip (the machine's PL061) of the arm64 kernel. QEMU translates every instruction, so a time
 * measured here compares with other times measured here only.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
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

const folder = mkdtempSync(join(tmpdir(), 'medulla-virt-'))
let laptop: Laptop
let machine: Machine
let key: string
const figures: string[] = []
const figure = (what: string, ms: number) => figures.push(`${what}: ${(ms / 1000).toFixed(1)} s`)

beforeAll(async () => {
  laptop = new Laptop()
  expect(await laptop.run('keygen')).toMatchObject({ status: 0 })
  key = join(laptop.dir, '.ssh/id_ed25519')
  if (!existsSync(key)) key = join(laptop.dir, 'config/id_ed25519')
  const publicKey = readFileSync(`${key}.pub`, 'utf8').trim()
  const card = new Card(image(), folder)
  card.write(
    'medulla.toml',
    [
      '[system]',
      'hostname = "arm"',
      '[ssh]',
      `authorized_keys = ["${publicKey}"]`,
      '[robot]',
      `operator = "${publicKey}"`,
      'board = "board.json"',
      '',
    ].join('\n'),
  )
  card.write('board.json', JSON.stringify(BOARD))
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

test('a push from the host runs, is swapped 3 times and rolled back over a line of the arm64 kernel', async () => {
  writeFileSync(join(folder, 'robot.json'), said('sudo cat /var/lib/medulla/robot.json'))
  expect(
    await laptop.run('trust', 'arm', `127.0.0.1:${machine.port}`, '--card', join(folder, 'robot.json')),
  ).toMatchObject({ status: 0 })
  await eventually(async () => (await laptop.run('status')).status === 0, 120_000 * SCALE)
  const program = join(laptop.dir, 'swing.mjs')
  for (let version = 1; version <= 4; version++) {
    writeFileSync(program, PROGRAM(version, version % 2 === 1 ? 1 : 0))
    const began = performance.now()
    const pushed = await laptop.run('push', program)
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
