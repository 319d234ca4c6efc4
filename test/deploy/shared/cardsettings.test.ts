import { expect, test } from 'vitest'
import { parseSettings } from '../../../deploy/shared/cardsettings.ts'

const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDummyDummyDummyDummyDummyDummyDummyDummy ada@laptop'

const mistakes = (text: string) => {
  const parsed = parseSettings(text)
  return 'mistakes' in parsed ? parsed.mistakes : []
}

test('every key is read, those of Raspberry Pi Imager too', () => {
  const text = `
config_version = 1
[system]
hostname = "arm-1"
[user]
name = "pi"
[ssh]
enabled = true
password_authentication = false
authorized_keys = ["${KEY}"]
[wlan]
ssid = "workshop"
password = "correct horse"
password_encrypted = false
hidden = true
country = "DE"
[locale]
keymap = "de"
timezone = "Europe/Berlin"
[robot]
operator = "${KEY}"
board = "board.json"
`
  expect(parseSettings(text)).toMatchObject({
    settings: {
      system: { hostname: 'arm-1' },
      ssh: { enabled: true, authorized_keys: [KEY] },
      wlan: { ssid: 'workshop', password: 'correct horse', hidden: true, country: 'DE' },
      robot: { operator: KEY, board: 'board.json' },
    },
  })
})

test('an empty file is good', () => {
  expect(parseSettings('')).toHaveProperty('settings')
})

test.each([
  ['[system]\nhostname = arm', 2, /./, /in quotes/],
  ['[system]\nhostnam = "arm"', 2, /unknown key "hostnam" in \[system\]/, /known: hostname/],
  ['[wifi]\nssid = "x"', 1, /unknown key "wifi" at the top/, /known: .*wlan/],
  ['[system]\nhostname = "My Arm"', 2, /"system\.hostname" cannot be used/, /a-z, 0-9 and -/],
  ['# a note\n[user]\nname = "ada"', 3, /"user\.name"/, /expected "pi"/],
  ['[wlan]\nssid = "workshop"\npassword = "short"\ncountry = "DE"', 3, /"wlan\.password"/, /8 to 63 characters/],
  ['[wlan]\nssid = "workshop"\npassword = "correct horse"', 1, /"wlan\.country" is missing/, /write country/],
  ['[ssh]\npassword_authentication = true', 2, /"ssh\.password_authentication"/, /keys only/],
  [`[robot]\noperator = "ssh-rsa ${'A'.repeat(20)}"`, 2, /"robot\.operator"/, /ed25519/],
  ['[robot]\nboard = "../etc/shadow"', 2, /"robot\.board"/, /beside medulla\.toml/],
  ['[robot]\noperator = "none"', 2, /"robot\.operator"/, /public key/],
])('%j is explained with its line and what to write', (text, line, message, fix) => {
  const [first] = mistakes(text)
  expect(first).toMatchObject({ line })
  expect(first?.message).toMatch(message)
  expect(first?.fix).toMatch(fix)
})

test('several mistakes are all named, and no password is repeated', () => {
  const found = mistakes('[system]\nhostname = "A"\n[wlan]\nssid = "x"\npassword = "secret"\ncountry = "Germany"')
  expect(found.map(({ line }) => line).sort()).toEqual([2, 5, 6])
  expect(JSON.stringify(found)).not.toContain('secret')
})
