import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { parseBoard } from '../../drivers/board/board.ts'
import { linesFor, withLines, withoutOurs, withoutWords, withWords } from '../../runtime/install/bootfiles.ts'

const LINES = ['dtparam=i2c_arm=on', 'dtparam=spi=on', 'dtoverlay=w1-gpio']
const anyLine = fc.constantFrom('', '# a comment', '[pi4]', '[all]', 'arm_64bit=1', 'dtparam=i2c_arm=off', ...LINES)
const anyText = fc.array(anyLine).map((lines) => lines.map((line) => `${line}\n`).join(''))
const anyLines = fc.uniqueArray(fc.constantFrom(...LINES))

test('config.txt: what is added is taken back to the byte, and adding it twice changes nothing', () => {
  void fc.assert(
    fc.property(anyText, anyLines, anyLines, (text, first, second) => {
      const once = withLines(text, first)
      expect(withLines(once, first)).toBe(once)
      expect(withoutOurs(once)).toBe(text)
      expect(withoutOurs(withLines(once, second))).toBe(text)
      for (const line of text.split('\n')) expect(once.split('\n')).toContain(line)
    }),
  )
})

test('config.txt: a line counts only where it is in force for this model, and is not undone below', () => {
  const on = 'dtparam=i2c_arm=on'
  expect(withLines(`${on}\n`, [on])).toBe(`${on}\n`)
  expect(withLines(`[all]\n  ${on}\n`, [on])).toBe(`[all]\n  ${on}\n`)
  for (const text of [`#${on}\n`, `[pi5]\n${on}\n`, `${on}\ndtparam=i2c_arm=off\n`, '']) {
    expect(withLines(text, [on])).toBe(`${text}# medulla install: begin\n[all]\n${on}\n# medulla install: end\n`)
  }
  expect(withLines('a=1', [on])).toBe(`a=1\n# medulla install: begin\n[all]\n${on}\n# medulla install: end\n`)
  // a person has written the line since: ours is not needed any more
  const both = withLines('', [on]).concat(`${on}\n`)
  expect(withLines(both, [on])).toBe(`${on}\n`)
})

test('cmdline.txt: words are added to its first line, and only these are taken back', () => {
  const text = 'console=tty1 root=PARTUUID=0 rootwait\n'
  const added = withWords(text, ['cgroup_enable=memory'])
  expect(added).toBe('console=tty1 root=PARTUUID=0 rootwait cgroup_enable=memory\n')
  expect(withWords(added, ['cgroup_enable=memory'])).toBe(added)
  expect(withoutWords(added, ['cgroup_enable=memory'])).toBe(text)
  expect(withoutWords('xcgroup_enable=memory y\n', ['cgroup_enable=memory'])).toBe('xcgroup_enable=memory y\n')
  expect(withoutWords('cgroup_enable=memory y', ['cgroup_enable=memory'])).toBe(' y')
  expect(withWords('', ['a=b'])).toBe('a=b')
})

test('each handle of a real board has the lines that its device needs', () => {
  const board = (model: string, handles: object) => parseBoard(JSON.stringify({ model, handles }), 'b')
  const all = {
    imu: { kind: 'i2c', bus: 1, address: '0x68' },
    display: { kind: 'spi', bus: 0, select: 0 },
    fan: { kind: 'pwm', line: 'GPIO12', frequencyHz: 1000 },
    water: { kind: 'temperature', device: '28-0316a279f5ff' },
    soft: { kind: 'pwm', line: 'GPIO5', driver: 'software', frequencyHz: 50, safe: 0 },
  }
  expect(linesFor(board('pi4', all)).map(({ line }) => line)).toEqual([
    'dtparam=i2c_arm=on',
    'dtparam=spi=on',
    'dtoverlay=pwm-2chan,pin=12,func=4,pin2=13,func2=4',
    'dtparam=audio=off',
    'dtoverlay=w1-gpio',
  ])
  expect(linesFor(board('pi5', { fan: all.fan })).map(({ line }) => line)).toEqual([
    'dtoverlay=pwm-2chan,pin=12,func=4,pin2=13,func2=4',
  ])
  expect(linesFor(board('pi4', { soft: all.soft }))).toEqual([])
  expect(linesFor(board('sim', { imu: { ...all.imu, simulate: 'mpu6050' } }))).toEqual([])
  expect(linesFor(null)).toEqual([])
})
