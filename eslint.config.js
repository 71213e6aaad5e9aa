import js from '@eslint/js'
import tseslint from 'typescript-eslint'

export default tseslint.config(
  {
    ignores: [
      'dist/',
      'node_modules/',
      'coverage/',
      'training/',
      'clients/typescript/schema.d.ts',
      'data/',
      'models/',
      '**/.venv/',
    ],
  },
  js.configs.recommended,
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.recommendedTypeChecked],
    languageOptions: {
      parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': 'error',
      'max-len': [
        'error',
        {
          code: 100,
          ignoreUrls: true,
          ignoreStrings: true,
          ignoreTemplateLiterals: true,
          ignoreRegExpLiterals: true,
        },
      ],
    },
  },
  {
    files: ['**/*.js', '**/*.mjs'],
    languageOptions: {
      globals: {
        console: 'readonly',
        fetch: 'readonly',
        process: 'readonly',
        setTimeout: 'readonly',
        URL: 'readonly',
      },
    },
  },
  {
    files: ['web/**/*.js'],
    languageOptions: {
      globals: Object.fromEntries(
        [
          'document',
          'window',
          'fetch',
          'location',
          'history',
          'navigator',
          'File',
          'FileReader',
          'FormData',
          'Blob',
          'URLSearchParams',
          'AbortController',
          'Event',
          'CustomEvent',
          'HTMLElement',
          'setTimeout',
          'clearTimeout',
          'requestAnimationFrame',
          'IntersectionObserver',
          'localStorage',
          'sessionStorage',
          'createImageBitmap',
          'performance',
          'matchMedia',
          'DataTransfer',
          'Image',
          'crypto',
          'queueMicrotask',
          'structuredClone',
        ].map((name) => [name, 'readonly']),
      ),
    },
  },
)
