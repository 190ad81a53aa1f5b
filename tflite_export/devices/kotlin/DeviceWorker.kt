package org.example.model

import android.content.Context
import androidx.work.Constraints
import androidx.work.CoroutineWorker
import androidx.work.ExistingPeriodicWorkPolicy
import androidx.work.NetworkType
import androidx.work.PeriodicWorkRequestBuilder
import androidx.work.WorkManager
import androidx.work.WorkerParameters
import java.io.IOException
import java.util.concurrent.CancellationException
import java.util.concurrent.TimeUnit
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.delay
import kotlinx.coroutines.isActive
import kotlinx.coroutines.withContext

/**
 * Takes part while the phone charges, is idle and has a network that costs nothing.
 *
 * WorkManager stops a worker when a constraint ends, and after ten minutes at the latest;
 * what was not answered then is done at its next start. Subclass it to say where messages
 * lie and what this device's examples are, and call [schedule] once, when the user agrees.
 */
abstract class DeviceWorker(context: Context, parameters: WorkerParameters) :
  CoroutineWorker(context, parameters) {

  /** Opens what this device has; closed when the worker ends. */
  protected abstract fun open(): Participant

  class Participant(val client: DeviceClient, val runtime: DeviceRuntime)

  override suspend fun doWork(): Result = withContext(Dispatchers.Default) {
    val participant = open()
    try {
      while (isActive) {
        when (participant.client.step { isActive }) {
          Step.FINISHED -> {
            WorkManager.getInstance(applicationContext).cancelUniqueWork(NAME)
            return@withContext Result.success()
          }
          Step.ANSWERED, Step.WAITING -> delay(PAUSE_MILLISECONDS)
        }
      }
      Result.retry()
    } catch (error: CancellationException) {
      // The answer is made anew at the next start.
      Result.retry()
    } catch (error: IOException) {
      Result.retry()
    } catch (error: Refused) {
      // Another plan, or a secret that is not taken: only an update of the app helps.
      if (runAttemptCount < MOST_ATTEMPTS) Result.retry() else Result.failure()
    } finally {
      participant.runtime.close()
    }
  }

  companion object {
    const val NAME = "federation"
    const val PAUSE_MILLISECONDS = 15_000L
    const val MOST_ATTEMPTS = 5
    // WorkManager's least.
    const val PERIOD_MINUTES = 15L

    /** Has a worker started whenever its constraints hold. */
    inline fun <reified Worker : DeviceWorker> schedule(context: Context) {
      val constraints = Constraints.Builder()
        .setRequiresCharging(true)
        .setRequiresDeviceIdle(true)
        .setRequiresBatteryNotLow(true)
        .setRequiredNetworkType(NetworkType.UNMETERED)
        .build()
      val request = PeriodicWorkRequestBuilder<Worker>(PERIOD_MINUTES, TimeUnit.MINUTES)
        .setConstraints(constraints)
        .build()
      WorkManager.getInstance(context)
        .enqueueUniquePeriodicWork(NAME, ExistingPeriodicWorkPolicy.KEEP, request)
    }
  }
}
