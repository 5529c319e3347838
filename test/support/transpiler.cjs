/* For tap's ts-node: types are stripped once per version of a file, and not again in each of a hundred and fifty test processes. */
const { createHash } = require('node:crypto')
const { mkdirSync, readFileSync, renameSync, writeFileSync } = require('node:fs')
const { join } = require('node:path')

const folder = join(__dirname, '../../node_modules/.cache/transpiled')

exports.create = ({ service: { config: { options }, projectLocalResolveHelper } }) => {
  mkdirSync(folder, { recursive: true })
  let ts
  return {
    transpile (input, { fileName }) {
      const kept = join(folder, createHash('sha1').update(JSON.stringify([options, fileName, input])).digest('hex'))
      try {
        return JSON.parse(readFileSync(kept, 'utf8'))
      } catch {
        // Not yet, or of another version.
      }
      ts ??= require(projectLocalResolveHelper('typescript', true))
      const { outputText, sourceMapText } = ts.transpileModule(input, { fileName, compilerOptions: { ...options, module: ts.ModuleKind.ESNext, noEmit: false, sourceMap: true, inlineSourceMap: false } })
      // Other test processes read it as soon as it has its name.
      const written = `${kept}.${process.pid}`
      writeFileSync(written, JSON.stringify({ outputText, sourceMapText }))
      renameSync(written, kept)
      return { outputText, sourceMapText }
    }
  }
}
