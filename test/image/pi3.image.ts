/**
 * The image on an emulated Pi 3B (QEMU's raspi3b): its own kernel, initial RAM disk and device tree, the Broadcom drivers of lines
 * and I2C, and the registers of the chip read from outside while programs are swapped.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { StatusReport } from '../../deploy/shared/api.ts'
import { Laptop } from '../deploy/laptop/cli/medulla.ts'
import { eventually, SCALE } from '../e2e/eventually.ts'
import { variant } from '../e2e/service.ts'
import { image } from './given.ts'
import { Card, Machine } from './machine.ts'

/** GPLEV0 of the BCM2837: a bit for each of the lines 0 to 31 ("BCM2835 ARM Peripherals", 6.1). */
const GPLEV0 = 0x3f200034
const SWAPS = Number(process.env.MEDULLA_SWAPS) || 5

const BOARD = {
  model: 'pi3',
  timing: { readyMs: 240_000, yieldMs: 20_000, takeoverMs: 20_000, heartbeatMs: 20_000, trialMs: 2000 },
  handles: {
    held: { kind: 'output', line: 'GPIO17', initial: 1, safe: 0 },
    low: { kind: 'output', line: 'GPIO27', safe: 1 },
    moved: { kind: 'output', line: 'GPIO22', safe: 0 },
    thermometer: { kind: 'i2c', bus: 1, address: '0x48' },
  },
}

const program = (version: number) => `// version ${version}
import { robot } from 'medulla'
robot({
  needs: { held: 'output', low: 'output', moved: 'output', thermometer: 'i2c' },
  state: { version: 1, initial: () => ({ ticks: 0 }) },
  run({ moved, thermometer, state, every, log, info }) {
    moved.write(${version % 2})
    const [high, low] = thermometer.writeRead(Uint8Array.of(0), 2)
    log('v${version} ' + (info.tookOver ? 'took over' : 'started') + ', ' + (high + low / 256) + ' degrees')
    every(100, () => { state.ticks += 1 })
  },
})
`

const folder = mkdtempSync(join(tmpdir(), 'medulla-pi3-'))
const figures: string[] = []
const figure = (what: string, ms: number) => figures.push(`${what}: ${(ms / 1000).toFixed(1)} s`)
let laptop: Laptop
let machine: Machine
let key: string

beforeAll(async () => {
  laptop = new Laptop()
  expect(await laptop.run('keygen')).toMatchObject({ status: 0 })
  key = join(laptop.dir, 'config/id_ed25519')
  if (!existsSync(key)) key = join(laptop.dir, '.ssh/id_ed25519')
  const publicKey = readFileSync(`${key}.pub`, 'utf8').trim()
  const card = new Card(image(), folder)
  card.write('board.json', JSON.stringify(BOARD))
  card.write(
    'medulla.toml',
    `[ssh]\nauthorized_keys = ["${publicKey}"]\n[robot]\noperator = "${publicKey}"\nboard = "board.json"\n`,
  )
  machine = new Machine(card, 'raspi3b')
  figure('power-on until ssh answers, first start', await machine.start(key))
})
afterAll(async () => {
  await machine?.cut()
  console.log(figures.join('\n'))
  rmSync(folder, { recursive: true, force: true })
})

/** Reads the levels of the held lines all the time: 17 stays high, and 27 low. */
async function watched(doing: () => Promise<void>): Promise<void> {
  const seen = new Set<string>()
  let looks = 0
  let isOver = false
  // one look after the other: QEMU answers one connection at a time
  const watching = (async () => {
    for (; !isOver; looks++) {
      const levels = await machine.register(GPLEV0)
      seen.add(`${(levels >> 17) & 1}${(levels >> 27) & 1}`)
      await sleep(5)
    }
  })()
  try {
    await doing()
  } finally {
    isOver = true
    await watching
    figures.push(`levels read from outside ${looks} times`)
  }
  expect([...seen]).toEqual(['10'])
}

const level = async (line: number) => ((await machine.register(GPLEV0)) >> line) & 1

test('levels of the chip, read from outside, stay over swaps, and change when a program changes them', async () => {
  const said = machine.ssh(
    key,
    'cat /sys/firmware/devicetree/base/model; gpiodetect; ls /dev/i2c-1; sudo cat /var/lib/medulla/robot.json',
  )
  const card = said.stdout.slice(said.stdout.indexOf('{'))
  console.log(said.stdout.slice(0, -card.length))
  writeFileSync(join(folder, 'robot.json'), card)
  const known = await laptop.run('trust', 'arm', `127.0.0.1:${machine.port}`, '--card', join(folder, 'robot.json'))
  expect(known, known.stderr).toMatchObject({ status: 0 })
  await eventually(async () => (await laptop.run('status')).status === 0, 300_000 * SCALE)
  expect([await level(17), await level(27)]).toEqual([1, 0])
  await watched(async () => {
    for (let version = 1; version <= SWAPS + 1; version++) {
      await machine.set('thermometer', 'temperature', 20_000 + 1000 * (version % 10))
      const file = join(laptop.dir, 'swing.mjs')
      writeFileSync(file, program(version))
      const began = performance.now()
      const pushed = await laptop.run('push', file)
      figure(`push ${version}`, performance.now() - began)
      expect(pushed, pushed.stderr).toMatchObject({ status: 0 })
      expect(await level(22)).toBe(version % 2)
      const logs = await laptop.run('logs')
      expect(logs.stdout).toContain(
        `v${version} ${version === 1 ? 'started' : 'took over'}, ${20 + (version % 10)} degrees`,
      )
    }
  })
})

/** The pid of the program that runs. */
const running = () =>
  eventually(async () => {
    const { status, stdout } = await laptop.run('status', '--json')
    const { slots } = (status === 0 ? JSON.parse(stdout) : { slots: [] }) as Pick<StatusReport, 'slots'>
    const [slot] = slots
    return slot?.state === 'running' && slot.pid
  }, 300_000 * SCALE)

test('HANDOVER 17.2, 18.3: the runtime updates itself under the program: the same process, and levels stay', async () => {
  // an emulated Pi takes longer to start Node than the 10 s of the unit, which have no factor as the runtime's own deadlines have
  const longer = "printf '[Service]\\nWatchdogSec=5min\\n' > /run/systemd/system/medulla.service.d/slow.conf"
  const restart = `mkdir -p /run/systemd/system/medulla.service.d; ${longer}; systemctl daemon-reload; systemctl restart medulla`
  expect(machine.ssh(key, `sudo sh -c "${restart}"`)).toMatchObject({ status: 0 })
  const pid = await running()
  const folder = variant(join(laptop.dir, 'newer'), { version: '9.0.0' })
  const began = performance.now()
  await watched(async () => {
    const pushed = await laptop.start(['runtime', 'push', folder], { MEDULLA_TIME_SCALE: '10' }).ended
    expect(pushed, pushed.stderr).toMatchObject({ status: 0 })
  })
  figure('runtime push, until it has proved itself', performance.now() - began)
  expect((await laptop.run('runtime')).stdout).toMatch(/^runtime +9\.0\.0 /m)
  expect(await running()).toBe(pid)
})

test('the program is killed for good: safe levels', async () => {
  const stopped = await laptop.run('stop')
  expect(stopped, stopped.stderr).toMatchObject({ status: 0 })
  expect([await level(17), await level(27), await level(22)]).toEqual([0, 1, 0])
})
