// An endpoint that was taken over: it sends the lines of the file argv[2] to the body, and writes what it hears beside it.
import { appendFileSync, readFileSync, writeSync } from 'node:fs'
import { Socket } from 'node:net'

const [, , lines] = process.argv
const body = new Socket({ fd: 3, readable: true, writable: true })
body.on('data', (chunk) => appendFileSync(`${lines}.answers`, chunk))
body.on('close', () => process.exit(0))
// what it stages
writeSync(6, 'junk')
body.write(readFileSync(lines))
