<?php

// The site of this application at its Recado server. `php artisan vendor:publish --tag=recado-config` copies this file into
// config/; Recado\Settings explains the settings.

return [
    'url' => env('RECADO_URL', 'http://127.0.0.1:1337'),
    'site' => env('RECADO_SITE'),
    'api_key' => env('RECADO_API_KEY'),
    'webhook_secret' => env('RECADO_WEBHOOK_SECRET'),
    'token_secret' => env('RECADO_TOKEN_SECRET'),
    'token_issuer' => env('RECADO_TOKEN_ISSUER'),
    'token_audience' => env('RECADO_TOKEN_AUDIENCE'),
    // Seconds of one attempt, and of a call with all its repeats: a request of a page waits for it.
    'attempt_timeout' => 5,
    'deadline' => 15,
    'retries' => 4,
];
