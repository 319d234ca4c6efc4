/** A slot's data folder, and files that come with a program, on a running robot. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { eventually } from './eventually.ts'
import { TestRobot } from './robot.ts'

let robot: TestRobot

beforeAll(async () => {
  robot = await TestRobot.start({ restartMostMs: 100 }, {}, { more: { limits: { dataMb: 4 } } })
})
afterAll(async () => robot?.close())

const logged = (text: string | RegExp) =>
  eventually(async () => (await robot.logs()).findLast((line) => line.text.match(text)))
const count = () => Number(readFileSync(join(robot.home, 'slots/main/data/count'), 'utf8'))

test('HANDOVER 14.1, 14.3: files in the data folder are there for the next program, and after a restart', {
  tags: ['slow'],
}, async () => {
  await robot.commit('data', { program: 'data' })
  await logged('data 1.0.0: found')
  await eventually(() => count() > 3)
  await robot.commit('data', { program: 'data', version: '2.0.0' })
  const [, found] = /found (\d+) in count/.exec((await logged('data 2.0.0: found')).text) ?? []
  expect(Number(found)).toBeGreaterThan(3)
  await robot.end()
  const before = count()
  await robot.begin()
  const again = await eventually(async () =>
    (await robot.logs()).findLast(
      (line) => /data 2\.0\.0: found/.test(line.text) && !line.text.includes(`found ${found} `),
    ),
  )
  expect(Number(/found (\d+) in/.exec(again.text)?.[1])).toBeGreaterThanOrEqual(before)
})

test('HANDOVER 14.4: a program whose data folder stays above the limit is ended, and the log says why', {
  tags: ['slow'],
}, async () => {
  await robot.client.setParams('main', { set: { fill: true } })
  const warned = await logged('delete files, or the program is ended')
  expect(warned).toMatchObject({ stream: 'runtime', level: 'warn' })
  expect(warned.text).toMatch(/^its data folder holds \d+\.\d MB, and limits\.dataMb of the board is 4/)
  await logged(/(?!.*deleted).*its data folder holds .* MB, and limits\.dataMb of the board is 4/)
})

test('HANDOVER 14.1: the data folder of a slot without a commit is removed at the next start', {
  tags: ['slow'],
}, async () => {
  await robot.client.setParams('main', { set: { fill: false } }).catch(() => {})
  const { existsSync, mkdirSync, writeFileSync } = await import('node:fs')
  await robot.end()
  const left = join(robot.home, 'slots/ghost/data')
  mkdirSync(left, { recursive: true })
  writeFileSync(join(left, 'x'), '')
  await robot.begin()
  expect(existsSync(left)).toBe(false)
  expect(existsSync(join(robot.home, 'slots/main/data/count'))).toBe(true)
})

test('BUNDLE 11.6: a program can read its bundled files at the paths of its sources', {
  tags: ['slow'],
}, async () => {
  await robot.commit('assets', { program: 'assets' })
  const expected = 'assets: <h1>robot</h1> RIFF worker says 42'
  await logged(expected)
  // as pushed, and as stored
  const said = async () => (await robot.logs()).filter(({ text }) => text === expected).length
  const before = await said()
  await robot.end()
  await robot.begin()
  await eventually(async () => (await said()) > before)
})
