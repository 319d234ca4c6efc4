/** Drivers from npm that open i2c-bus, spi-device or serialport themselves, unchanged, on simulated chips. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { simulate } from 'medulla/test'
import { beforeAll, expect, onTestFinished, test } from 'vitest'
import { installedPackages } from './install.ts'

let packages: string
beforeAll(() => {
  packages = installedPackages()
}, 600_000)

const i2c = (address: string, chip: string) => ({ kind: 'i2c', bus: 1, address, simulate: chip })
const board = {
  model: 'sim',
  handles: {
    led: { kind: 'output', line: 17 },
    air: i2c('0x76', 'bme280'),
    adc: i2c('0x48', 'ads1115'),
    oled: i2c('0x3c', 'ssd1306'),
    servos: i2c('0x40', 'pca9685'),
  },
}

/** A program's file, beside which the packages are. */
function programOf(text: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'medulla-npm-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  mkdirSync(folder, { recursive: true })
  symlinkSync(join(packages, 'node_modules'), join(folder, 'node_modules'))
  const file = join(folder, 'program.mjs')
  writeFileSync(file, text)
  return file
}

/** A line of the log that begins so, after at most so many seconds of the simulation. */
async function logged(
  text: string,
  start: string,
  before?: (poke: (h: string, w: string, v: unknown) => void) => void,
) {
  const lines: string[] = []
  const sim = await simulate(programOf(text), { board, rehearsals: 3, onLog: (line) => lines.push(line.text) })
  before?.((handle, what, value) => sim.poke(handle, what, value))
  for (let tries = 0; tries < 40 && !lines.some((line) => line.startsWith(start)); tries++) await sim.run('250ms')
  await sim.stop()
  return lines.findLast((line) => line.startsWith(start)) ?? `nothing that begins so: ${lines.join('\n')}`
}

test('BUNDLE 11.8: bme280, which opens the bus itself, reads the chip that was granted', {
  tags: ['slow'],
}, async () => {
  const line = await logged(
    `import bme280 from 'bme280'
     import { robot } from 'medulla'
     robot({ air: 'i2c' }, ({ every, log }) => {
       const opened = bme280.open({ i2cAddress: 0x76, forcedMode: false })
       // a rehearsal's chip has no identity
       opened.catch(() => {})
       every(500, async () => {
         if ((await opened.catch(() => null)) === null) return
         const { temperature, humidity, pressure } = await (await opened).read()
         if (temperature > 21) log(\`air \${temperature.toFixed(1)} \${humidity.toFixed(0)} \${pressure.toFixed(0)}\`)
       })
     })`,
    'air 21.5',
    (poke) => poke('air', 'temperature', 21.5),
  )
  expect(line).toMatch(/^air 21\.5 \d+ \d+$/)
})

test('BUNDLE 11.8: ads1x15, sloppy CommonJS, converts on the chip that was granted', { tags: ['slow'] }, async () => {
  const line = await logged(
    `import Ads1x15 from 'ads1x15'
     import { robot } from 'medulla'
     robot({ adc: 'i2c' }, ({ log }) => {
       const run = async () => {
         const adc = new Ads1x15(1)
         await adc.openBus(1)
         const mv = await adc.readSingleEnded({ channel: 0, pga: 4096 })
         log(\`adc \${Math.round(mv)}\`)
         setTimeout(run, 100)
       }
       run()
     })`,
    'adc 1500',
    (poke) => poke('adc', 'ain0', 1.5),
  )
  expect(line).toMatch(/^adc 1500/)
})

test('oled-i2c-bus, which assigns to undeclared names, draws on a bus of medulla/drivers', {
  tags: ['slow'],
}, async () => {
  const line = await logged(
    `import Oled from 'oled-i2c-bus'
     import font from 'oled-font-5x7'
     import { robot } from 'medulla'
     import { i2cBus } from 'medulla/drivers'
     robot({ oled: 'i2c' }, ({ oled, every, log }) => {
       const screen = new Oled(i2cBus(oled), { width: 128, height: 64, address: 0x3c })
       let n = 0
       every(200, () => {
         screen.setCursor(1, 1)
         screen.writeString(font, 1, 'hello', 1, true)
         log(\`drawn \${++n}\`)
       })
     })`,
    'drawn 2',
  )
  expect(line).toBe('drawn 2')
})

test('BUNDLE 11.8: an address that was not granted: the driver is told so', { tags: ['slow'] }, async () => {
  const line = await logged(
    `import bme280 from 'bme280'
     import { robot } from 'medulla'
     robot({ adc: 'i2c' }, ({ every, log }) => {
       every(100, () => {})
       bme280.open({ i2cAddress: 0x76 }).catch((error) => log(\`failed: \${error.message}\`))
     })`,
    'failed: no handle',
  )
  expect(line).toBe(
    "failed: no handle of this program has the address 0x76: ask for the board's i2c handle that has it",
  )
})
