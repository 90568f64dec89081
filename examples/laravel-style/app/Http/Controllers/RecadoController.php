<?php

declare(strict_types=1);

namespace App\Http\Controllers;

use Recado\AuthAnswer;

final class RecadoController extends Controller
{
    /** Recado's authUrl: the rooms of the user whose token it is, one of their own and one for everybody. */
    public function rooms(): void
    {
        $user = self::userOf(AuthAnswer::tokenOf($_SERVER['HTTP_AUTHORIZATION'] ?? null));
        $this->recado->authAnswer($user === null ? null : ["user_$user", 'everybody'])->emit();
    }
}
