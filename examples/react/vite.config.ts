import react from '@vitejs/plugin-react'
import { defineConfig } from 'vite'

const server = `http://localhost:${process.env.PORT ?? 3000}`

export default defineConfig({
  plugins: [react()],
  // in development the page comes from Vite, and everything of the agents from the server
  server: { proxy: { '/agent-events': { target: server, ws: true } } }
})
