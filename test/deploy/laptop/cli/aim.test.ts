import { describe, expect, test } from 'vitest'
import { aimed } from '../../../../deploy/laptop/cli/aim.ts'

describe('commands in hints', () => {
  test.each([
    ['medulla stop', null, null, 'medulla stop'],
    ['medulla stop', 'arm', null, 'medulla stop -d arm'],
    ['medulla stop', null, 'leg', 'medulla stop --slot leg'],
    ['medulla stop', 'my arm', 'leg', "medulla stop -d 'my arm' --slot leg"],
    [
      'medulla stop --slot leg, then medulla status',
      'arm',
      'tail',
      'medulla stop -d arm --slot leg, then medulla status -d arm',
    ],
    [
      'medulla config set URL && medulla config set TOKEN',
      'arm',
      null,
      'medulla config -d arm set URL && medulla config -d arm set TOKEN',
    ],
    ['medulla estop --release', null, 'leg', 'medulla estop --release'],
    ['medulla push --help', null, 'leg', 'medulla push --help'],
    ['medulla logs -d arm', 'other', 'leg', 'medulla logs --slot leg -d arm'],
  ])('%s for %s and %s', (text, robot, slot, wanted) => {
    expect(aimed(text, robot, slot)).toBe(wanted)
  })
})
