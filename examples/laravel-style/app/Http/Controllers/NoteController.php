<?php

declare(strict_types=1);

namespace App\Http\Controllers;

use App\Events\NoteCreated;

final class NoteController extends Controller
{
    /** The page of the user in the query. A real site has a login in the place of this. */
    public function index(): void
    {
        $user = self::user($_GET['user'] ?? 'alice');
        $url = getenv('RECADO_URL') ?: 'http://127.0.0.1:1337';
        $page = ['user' => $user, 'token' => self::tokenOf($user), 'url' => "$url/laravel-style", 'notes' => '/notes'];
        $view = file_get_contents(__DIR__ . '/../../../resources/views/page.html');
        header('Content-Type: text/html; charset=utf-8');
        echo strtr($view, ['RECADO_URL' => $url, '{}' => json_encode($page, JSON_HEX_TAG)]);
    }

    /** Keeps a note, which a real site does here, and broadcasts it. */
    public function store(): void
    {
        $note = json_decode(file_get_contents('php://input', length: 10_000), true);
        $text = $note['text'] ?? null;
        if (!\is_string($text) || !preg_match('/^.{1,200}$/usD', $text)) {
            http_response_code(422);
            return;
        }
        $this->broadcast(new NoteCreated(self::user($note['user'] ?? null), $text));
        http_response_code(204);
    }
}
