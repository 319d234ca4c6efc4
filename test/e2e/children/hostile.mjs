// Plays a compromised endpoint: sends the lines of the file argv[2] to the body, and writes the answers to a file beside it.
import { appendFileSync, readFileSync, writeSync } from 'node:fs'
import { Socket } from 'node:net'

const [, , lines] = process.argv
const body = new Socket({ fd: 3, readable: true, writable: true })
body.on('data', (chunk) => appendFileSync(`${lines}.answers`, chunk))
body.on('close', () => process.exit(0))
// the staged bytes
writeSync(6, 'junk')
body.write(readFileSync(lines))
